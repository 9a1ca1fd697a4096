"""The URI to which a browser carries a code: the registered redirect URI, with the code in its query.

Whether a redirect URI is registered is decided in `authorization`. Its text is never parsed and rebuilt, because a
parser changes what it reads.
"""

from urllib.parse import quote


def with_code(redirect_uri: str, code: str) -> str:
    """Return `redirect_uri` with `code` as its first parameter; its own ones follow unchanged, in order of their names.

    Sources: rule AUT-12; RFC 6749 section 4.1.2.
    """
    target, hash_sign, fragment = redirect_uri.partition("#")
    path, _, query = target.partition("?")
    own = sorted(filter(None, query.split("&")), key=lambda parameter: parameter.partition("=")[0])
    return path + "?" + "&".join([f"code={quote(code, safe='')}", *own]) + hash_sign + fragment
