"""The address to which a browser carries a code: the registered one, with the code in its query.

Whether an address is registered is decided in `authorization`. Its text is never parsed and rebuilt, for a parser
changes what it reads.
"""

from urllib.parse import quote


def with_code(redirect_uri: str, code: str) -> str:
    """`redirect_uri` with `code` as its first parameter and its own ones, untouched, after it in their order by name.

    Source: contract.md 3.2.1; RFC 6749 section 4.1.2.
    """
    address, hash_sign, fragment = redirect_uri.partition("#")
    path, _, query = address.partition("?")
    own = sorted(filter(None, query.split("&")), key=lambda parameter: parameter.partition("=")[0])
    return path + "?" + "&".join([f"code={quote(code, safe='')}", *own]) + hash_sign + fragment
