"""The authority of a redirect URI: who would receive the authorization code, and at which port.

Splits `userinfo@host:port` and yields the codes of the rules that it breaks. The other parts of a URI, and the
descriptions of the codes, are in `redirect_uris`. Only ASCII comes here: a URI with anything else is refused before
it is split.
"""

import re
from collections.abc import Iterator
from typing import Final

import idna
import msgspec

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

# Top labels under which no name of the public internet can be registered. A code sent there stays inside a private
# network, or goes to the machine that answers for the name in it.
NON_PUBLIC_TOP_LABELS: Final = frozenset(
    {
        # IANA's registry of special-use names: RFC 6761; 6762 (local); 7686 (onion); 9476 (alt); and all of
        # arpa, which is infrastructure (RFC 3172) but for the home networks of RFC 8375.
        *("test", "localhost", "invalid", "example", "local", "onion", "alt", "arpa"),
        # Never to be delegated: internal by resolution 2024.07.29.06 of the ICANN Board; the applications for
        # the other three stopped by 2018.02.04.12, because private networks are full of these names.
        *("internal", "home", "corp", "mail"),
        # Not reserved, but not delegated either, and known to be in private use: RFC 6762 appendix G.
        *("intranet", "private", "lan"),
    }
)

_BRACKETED = re.compile(r"(\[[^\]]*\])(?::(.*))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What a browser reads as one number of an IPv4 host: decimal, octal or hexadecimal, of any size, and
# "0x" alone, which is zero (WHATWG URL, "ends in a number" and "IPv4 number parser").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LONGEST_HOST = 253
_LARGEST_PORT = 65_535


class Authority(msgspec.Struct, frozen=True):
    """The three parts of an authority as they were written; None where the part and its mark are absent."""

    userinfo: str | None
    host: str
    port: str | None

    @property
    def is_loopback(self) -> bool:
        """Return whether the host is certainly this machine. After a userinfo that is not certain."""
        return self.userinfo is None and self.host.lower() in LOOPBACK_HOSTS

    def canonical(self, *, without_port: bool) -> str:
        """Return the authority with its host in lower case."""
        userinfo = "" if self.userinfo is None else f"{self.userinfo}@"
        port = "" if self.port is None or without_port else f":{self.port}"
        return f"{userinfo}{self.host.lower()}{port}"


def split(authority: str) -> Authority:
    """Split an authority: the host begins after the last `@` and ends at the first `:` outside brackets.

    A bracket that is not closed, or closed and followed by anything but a port, makes all of it the host.
    """
    userinfo, at, rest = authority.rpartition("@")
    host, port = _split_port(rest)
    return Authority(userinfo=userinfo if at else None, host=host, port=port)


def _split_port(text: str) -> tuple[str, str | None]:
    if bracketed := _BRACKETED.fullmatch(text):
        return bracketed[1], bracketed[2]
    if text.startswith("["):
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def broken_rules(authority: Authority, *, allow_loopback: bool, allow_punycode: bool) -> Iterator[str]:
    """Yield the reason code of each rule that the authority breaks, in no particular order."""
    if authority.userinfo is not None:
        yield "userinfo"
    if authority.port is not None and not _is_port(authority.port):
        yield "port"
    if allow_loopback and authority.is_loopback:
        return
    # In lower case, because upper case is a problem of its own and hides none of the others.
    host = authority.host.lower()
    for reason in _broken_by_host(host, allow_punycode=allow_punycode):
        # Behind a userinfo it is in dispute which part is the host, so "not public" would be a guess.
        if reason != "non_public_host" or authority.userinfo is None:
            yield reason


def _is_port(text: str) -> bool:
    return bool(_PORT.fullmatch(text)) and int(text) <= _LARGEST_PORT


def _broken_by_host(host: str, *, allow_punycode: bool) -> Iterator[str]:
    if not host:
        yield "empty_host"
        return
    if "*" in host:  # reported as `wildcard`; what the rest of the host would be depends on its expansion
        return
    if host.endswith("."):
        yield "trailing_dot"
    if "%" in host:
        yield "percent_in_host"
    labels = host.removesuffix(".").split(".")
    if host.startswith("[") or all(_NUMBER.fullmatch(label) for label in labels):
        yield "ip_literal"
    elif "%" not in host:
        yield from _broken_by_name(labels, allow_punycode=allow_punycode)


def _broken_by_name(labels: list[str], *, allow_punycode: bool) -> Iterator[str]:
    if not allow_punycode and any(label.startswith("xn--") for label in labels):
        yield "punycode"
    if not _is_name(labels) or (allow_punycode and not all(map(_is_as_registered, labels))):
        yield "host_syntax"
    if all(labels) and (len(labels) == 1 or labels[-1] in NON_PUBLIC_TOP_LABELS):
        yield "non_public_host"


def _is_name(labels: list[str]) -> bool:
    """Say whether these are letters, digits and inner hyphens, 1 to 63 a label, 253 in all (RFC 1123 2.1)."""
    if len(".".join(labels)) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        return False
    # The top label is alphabetic: a browser could read any other host as a number. One label alone is judged as
    # not public, and a top label in punycode by the rule for punycode: neither needs this code as well.
    return len(labels) == 1 or labels[-1].isalpha() or labels[-1].startswith("xn--")


def _is_as_registered(label: str) -> bool:
    """Say whether a label has no punycode, or is what IDNA2008 makes of its own Unicode form (RFC 5891)."""
    if not label.startswith("xn--"):
        return True
    try:
        return idna.alabel(idna.ulabel(label)) == label.encode("ascii")
    except ValueError:  # idna's own errors are of this family, and so are those of the codec beneath it
        return False
