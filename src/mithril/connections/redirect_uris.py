"""The rules for redirect URIs: which strings may be registered to receive authorization codes.

A URI is checked as a string and never normalised, because it is later compared as a string (RFC 9700 section 2.1).
Every parser must find the same host in an accepted one. The rules run from the outside in: the characters, the
scheme, the authority (`redirect_uri_hosts`), the path, the query. Nothing here uses the database, the DNS or the
published JSON Schema.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from mithril.connections import redirect_uri_hosts as hosts
from mithril.settings import Settings

# What OAuth and OpenID Connect put into a redirect. Where the URI has a parameter of that name already,
# it depends on the client's framework which of the two it reads (RFC 6749 section 4.1.2, RFC 9207 section 2).
RESERVED_PARAMETERS: Final = (
    *("code", "state", "iss", "error", "error_description", "error_uri", "response", "session_state"),
    *("access_token", "token_type", "id_token", "scope", "expires_in"),
)

# Each reason code with its description, in the order in which problems are listed.
DESCRIPTIONS: Final = {
    "empty": "The address is empty; give the full https address of your callback.",
    "too_long": "The address is longer than 2048 bytes; shorten it.",
    "non_ascii": "The address has characters outside ASCII; percent-encode them as UTF-8 in path and query, "
    "and write a host name in ASCII.",
    "illegal_character": "The address has a character that RFC 3986 does not allow in its place (a control "
    "character, a space, one of \\ ^ ` { } | < > \", a bracket outside an IPv6 host) or ' in the query; "
    "remove or percent-encode it.",
    "bad_percent_escape": "A % is not followed by two hexadecimal digits; write a literal % as %25, in the query only.",
    "fragment": "The address has a fragment; remove the # and everything after it.",
    "not_absolute": "The address does not begin with a scheme; write it in full, beginning with https://.",
    "scheme": "The scheme is not https; give an address that begins with https://.",
    "no_authority": "The scheme is not followed by //; begin the address with https:// and a host name.",
    "not_canonical": "The scheme or host has upper case, or the port is the default 443; write them in lower "
    "case and leave :443 out, because addresses are compared letter by letter.",
    "empty_host": "The address names no host; put a host name after https://.",
    "userinfo": "The address has an @ before the path, which hides the host; remove it and what precedes it.",
    "wildcard": "The address contains *; wildcards are not supported, so register one exact address.",
    "ip_literal": "The host is an IP address, or a number that browsers read as one; use a host name.",
    "percent_in_host": "The host has a percent escape; write the host name in plain letters.",
    "port": "The port is not a number from 1 to 65535 without leading zeros; correct it, or leave it out.",
    "trailing_dot": "The host ends in a dot; remove it.",
    "host_syntax": "The host is not a valid name; give each label 1 to 63 letters, digits and inner hyphens, the "
    "last one letters only, and all together at most 253 characters.",
    "non_public_host": "The host is not reachable from the public internet (a single label, or a top label "
    "kept for special or private use); use a public host name.",
    "punycode": "A label of the host begins with xn--, which internationalised names can use to imitate others; "
    "use a host name in plain letters.",
    "encoded_control": "A percent escape stands for a control character, perhaps after repeated decoding; remove it.",
    "bad_utf8": "The percent escapes in path or query are not valid UTF-8; encode the text as UTF-8.",
    "encoded_delimiter": "The path has %2E, %2F, %5C or %25, which servers decode differently; choose a path "
    "without them.",
    "dot_segment": "The path has a segment . or ..; write the path that results from following it.",
    "double_slash": "The path has // in it; write a single slash.",
    "reserved_parameter": "The query has a parameter whose name is reserved for the answer of the "
    f"authorization server ({', '.join(RESERVED_PARAMETERS)}); rename it.",
    "duplicate_parameter": "The query has the same parameter more than once; give each name one value.",
}

_LONGEST_ADDRESS_BYTES = 2048
_ILLEGAL = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%\x80-\U0010ffff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# A URI with one of these has no parts that all parsers agree on.
_INDIVISIBLE = frozenset({"non_ascii", "illegal_character", "bad_percent_escape"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_ENCODED_DELIMITER = re.compile(r"%(?:2[ef]|5c|25)", re.IGNORECASE)
# A control character (Unicode category Cc) as UTF-8 bytes; 0xC2 always begins a character.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_HEX_PAIRS = [high + low for high in "0123456789abcdefABCDEF" for low in "0123456789abcdefABCDEF"]
_BYTE_BY_ESCAPE = {f"%{pair}".encode(): bytes.fromhex(pair) for pair in _HEX_PAIRS}
# As lenient as the frameworks taken together: `code[0]` is an array called `code` to PHP, Rails and others;
# PHP reads `.`, a space and an unmatched `[` as `_`; some ignore the case or the spaces around a name.
_RESERVED_NAME = re.compile(rf"\s*(?:{'|'.join(RESERVED_PARAMETERS)})\s*(?:\[.*)?".replace("_", r"[_. \[]"), re.DOTALL)


class Policy(msgspec.Struct, frozen=True):
    """What the operator allows beyond the rules: loopback hosts, for `--demo`, and punycode."""

    allow_loopback: bool = False
    allow_punycode: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """Return the policy of a server with these settings."""
        return cls(allow_loopback=settings.demo, allow_punycode=settings.allow_punycode)


STRICT: Final = Policy()


class Problem(msgspec.Struct, frozen=True):
    """A broken rule: its code, a sentence for the developer, and the intended URI where that is certain."""

    reason: str
    description: str
    suggestion: str | None = None


class _Parts(msgspec.Struct, frozen=True):
    """A URI that begins with `scheme://`; `tail` is all that follows the authority."""

    scheme: str
    authority: hosts.Authority
    tail: str
    path: str
    query: str


def problems(uri: str, policy: Policy = STRICT) -> list[Problem]:
    """List every rule that a redirect URI breaks, each once, in the order of `DESCRIPTIONS`; [] accepts it.

    Takes any string and raises nothing, in time proportional to the length of the string. Where a URI cannot be
    split safely, the rules for its parts are not checked.
    """
    broken = set(_broken_rules(uri, policy))
    if not broken:
        return []
    return [
        Problem(reason, description, _suggestion(uri, policy) if reason == "not_canonical" else None)
        for reason, description in DESCRIPTIONS.items()
        if reason in broken
    ]


def verdict(problems: list[Problem]) -> dict[str, object]:
    """Return the answer to a check of a redirect URI: `accepted`, `reasons`, `suggestion`."""
    return {
        "accepted": not problems,
        "reasons": [problem.reason for problem in problems],
        "suggestion": next((problem.suggestion for problem in problems if problem.suggestion), None),
    }


def is_demo_loopback(uri: str) -> bool:
    """Say whether a URI begins with one of the origins that `--demo` accepts.

    These are http and https on `LOOPBACK_HOSTS` with any port; the published pattern `^https://.+` is waived
    for them. Everything else is checked by `problems`, with a policy that allows loopback.
    """
    if _INDIVISIBLE & set(_broken_by_spelling(uri)):
        return False
    return uri.lower().startswith(("http://", "https://")) and _split(uri).authority.is_loopback


def _broken_rules(uri: str, policy: Policy) -> Iterator[str]:
    if not uri:
        yield "empty"
        return
    broken = set(_broken_by_spelling(uri))
    yield from broken
    if not broken & _INDIVISIBLE:
        yield from _broken_by_scheme(uri, policy)


def _broken_by_spelling(uri: str) -> Iterator[str]:
    if len(uri.encode("utf-8", "surrogatepass")) > _LONGEST_ADDRESS_BYTES:
        yield "too_long"
    if not uri.isascii():
        yield "non_ascii"
    if _ILLEGAL.search(uri):
        yield "illegal_character"
    if _BAD_ESCAPE.search(uri):
        yield "bad_percent_escape"
    if "#" in uri:
        yield "fragment"
    if "*" in uri:
        yield "wildcard"


def _broken_by_scheme(uri: str, policy: Policy) -> Iterator[str]:
    scheme, colon, rest = uri.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        yield "not_absolute"
    elif scheme.lower() not in {"http", "https"}:  # other schemes have other rules for their parts
        yield "scheme"
    elif rest.startswith("//"):
        yield from _broken_by_parts(uri, policy)
    else:
        yield "no_authority"
        if scheme.lower() == "http":
            yield "scheme"


def _broken_by_parts(uri: str, policy: Policy) -> Iterator[str]:
    parts = _split(uri)
    if parts.scheme.lower() != "https" and not _is_waived(parts, policy):
        yield "scheme"
    if _canonical(parts, policy) != uri:
        yield "not_canonical"
    if _has_misplaced_character(parts):
        yield "illegal_character"
    yield from hosts.broken_rules(
        parts.authority, allow_loopback=policy.allow_loopback, allow_punycode=policy.allow_punycode
    )
    yield from _broken_by_escapes(parts.path)
    yield from _broken_by_escapes(parts.query)
    yield from _broken_by_path(parts.path)
    yield from _broken_by_query(parts.query)


def _split(uri: str) -> _Parts:
    scheme, _, rest = uri.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    tail = rest.removeprefix(authority)
    path, _, query = tail.partition("#")[0].partition("?")
    return _Parts(scheme=scheme, authority=hosts.split(authority), tail=tail, path=path, query=query)


def _is_waived(parts: _Parts, policy: Policy) -> bool:
    return policy.allow_loopback and parts.authority.is_loopback


def _canonical(parts: _Parts, policy: Policy) -> str:
    scheme = parts.scheme.lower()
    drops_port = scheme == "https" and parts.authority.port == "443" and not _is_waived(parts, policy)
    return f"{scheme}://{parts.authority.canonical(without_port=drops_port)}{parts.tail}"


def _suggestion(uri: str, policy: Policy) -> str | None:
    canonical = _canonical(_split(uri), policy)
    return None if problems(canonical, policy) else canonical


def _has_misplaced_character(parts: _Parts) -> bool:
    """Say whether a bracket stands outside the host, or in the query a quote, which browsers escape there."""
    outside_host = f"{parts.authority.userinfo}{parts.authority.port}{parts.tail}"
    return "[" in outside_host or "]" in outside_host or "'" in parts.query


def _broken_by_escapes(text: str) -> Iterator[str]:
    if "%" not in text:
        return
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        yield "bad_utf8"
    if _CONTROL.search(_decode_fully(text)):
        yield "encoded_control"


def _decode_fully(text: str) -> bytes:
    """Decode percent escapes until none is left.

    Escapes cannot overlap, so the order in which they are decoded does not matter, and going over the text
    once with a stack gives what repeated decoding would; on nested escapes repetition takes quadratic time.
    """
    once = unquote_to_bytes(text)
    if not _ESCAPE.search(once):
        return once
    decoded = bytearray()
    for byte in once:
        decoded.append(byte)
        while (last := bytes(decoded[-3:])) in _BYTE_BY_ESCAPE:
            decoded[-3:] = _BYTE_BY_ESCAPE[last]
    return bytes(decoded)


def _broken_by_path(path: str) -> Iterator[str]:
    if _ENCODED_DELIMITER.search(path):
        yield "encoded_delimiter"
    # Servlet containers cut parameters such as `;v=1` off a segment before they resolve dots.
    if any(segment.partition(";")[0] in {".", ".."} for segment in path.split("/")):
        yield "dot_segment"
    if "//" in path:
        yield "double_slash"


def _broken_by_query(query: str) -> Iterator[str]:
    if not query:
        return
    # Some parsers separate parameters at a semicolon as well.
    if any(map(_is_reserved, {piece.partition("=")[0] for piece in re.split("[&;]", query)})):
        yield "reserved_parameter"
    names = [unquote_to_bytes(pair.partition("=")[0].replace("+", " ")) for pair in query.split("&") if pair]
    if len(set(names)) < len(names):
        yield "duplicate_parameter"


def _is_reserved(name: str) -> bool:
    # Bytes that are not UTF-8 are left out, because some frameworks do so.
    decoded = _decode_fully(name).decode(errors="ignore").replace("+", " ")
    return bool(_RESERVED_NAME.fullmatch(decoded.casefold()))


# One regular expression for documents and generators: what matches it is accepted under the strict policy,
# though not the reverse. ECMA-262, Python and Rust read it alike, having neither look-around nor flags. This
# limits it: two parameters at most, with names that can be neither reserved nor equal, and few escapes.
_LABEL = r"[a-z0-9]{1,16}(?:-[a-z0-9]{1,16}){0,2}"
# Two letters, six letters, or a first letter that no label of NON_PUBLIC_TOP_LABELS has; and a few by name.
_TOP_LABEL = (
    r"(?:[a-z]{2}|[a-z]{6}|[bdfgjknqrsu-z][a-z]{2,20}|"
    r"app|care|cloud|com|edu|hospital|info|org|pharmacy|tech)"
)
# No segment begins with a dot; no value can be anything but UTF-8, once or twice decoded.
_SEGMENT = r"[A-Za-z0-9_~!$&',:;=@+\(\)\-][A-Za-z0-9._~!$&',:;=@+\(\)\-]{0,63}"
_CYRILLIC = r"%[Dd][0-3]%[89ABab][0-9A-Fa-f]"
_VALUE = rf"(?:=(?:[A-Za-z0-9._~!$,:=@+\/?\-]|%2[0-46-9A-Fa-f]|%3[0-9A-Fa-f]|{_CYRILLIC}){{0,48}})?"
# No reserved name has one, two, six or seven letters, or begins with one of these; the second has its `_`.
_FIRST_NAME = r"(?:[a-z]{1,2}|[a-z]{6,7}|[bdfghj-qu-z][A-Za-z0-9]{0,30})"
_SECOND_NAME = r"[bdfghj-qu-z][a-z0-9]{0,15}_[a-z0-9]{1,15}"
ACCEPTED_PATTERN: Final = (
    rf"^https:\/\/(?:{_LABEL}\.){{1,4}}{_TOP_LABEL}"
    r"(?::(?:[1-9][0-9]|[1-9][0-9]{3}|[1-5][0-9]{4}))?"
    rf"(?:\/{_SEGMENT}){{0,8}}\/?"
    rf"(?:\?(?:{_FIRST_NAME}{_VALUE}(?:&{_SECOND_NAME}{_VALUE})?|{_SECOND_NAME}{_VALUE}))?$"
)
