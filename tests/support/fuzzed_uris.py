"""Generated redirect URIs for the tests of the rules: edited ones and composed ones."""

import re

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

GOOD = "https://mis.example.ua/cb"
LOOPBACK = [
    *("http://localhost", "https://localhost/cb", "http://localhost:3000/cb?a=1", "https://localhost:443/cb"),
    *("http://127.0.0.1:80/cb", "https://127.0.0.1", "http://[::1]:65535/cb", "https://[::1]?a=1"),
]

fuzzing = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
SEEDS = [
    *LOOPBACK,
    *(GOOD, "https://mis.example.ua", "https://a-b.c.com:8443/x/y/?tenant=7&q=%D0%86", "https://a.ua?b;c=/?"),
    *("https://r3---x.0x7f.1.health:65535/~u/(x)!$,/@:;v=1", "https://xn--80aaxgrpt.xn--j1amh/cb?a%5B0%5D=1"),
]
PIECES = [
    *"aZ09-._~!$&'()+,;=:@/?#[]*%\\ \t\n\x00\x7f^|<\"",
    *("é", "。", "\u202e", "\ud800", "%2e", "%2F", "%00", "%25", "%C2%80", "%80", "%D0%86", "//", "/../", "/.;"),
    *("xn--", "xn--j1amh.", "0x7f.", "127.", ".1", ".ua", ".local", ":443", ":80", ":0", "@evil.ua", "://"),
    *("?", "&code=", ";state", "%63ode", "code%5B", "&a=1&a", "localhost", "[::1]", "https://", "http://"),
]
EDITS = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([0, 0, 1, 3]), st.sampled_from(PIECES)), min_size=1, max_size=3
)


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Run a test with few examples in the quick suite and with many in the slow one."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def edited(uri: str, edits: list[tuple[int, int, str]]) -> str:
    """Replace so many characters at each position by each piece."""
    for position, removed, piece in edits:
        uri = uri[:position] + piece + uri[position + removed :]
    return uri


def text(alphabet: str, *, least: int = 0, most: int = 8) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(alphabet.split()), min_size=least, max_size=most).map("".join)


def three(parts: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(parts, min_size=3, max_size=3)


SEGMENTS = text("a Z 9 - . _ ~ ! $ & ' ( ) + , ; = : @ %20 %D1%96 %e2%82%ac %7E", least=1)
PAIRS = text("a Z 9 - . _ ~ ! $ ( ) + , ; = : @ / ? %20 %D1%96 %2f %25 %5B", most=12)
LABELS = st.sampled_from(["mis", "1", "0x7f", "r3---x", "xn--80aaxgrpt"]) | text("a b c d 0 1 9 -", least=1)
HOSTS = st.builds("{}.{}.{}".format, LABELS, LABELS, st.sampled_from(["ua", "com", "xn--j1amh"]))
ORIGINS = st.builds(
    "{}{}".format,
    HOSTS.map("https://{}".format) | st.sampled_from(["http://localhost", "https://127.0.0.1", "http://[::1]"]),
    st.sampled_from(["", "", ":1", ":80", ":443", ":8443", ":65535"]),
)
PATHS = st.lists(SEGMENTS.map("/{}".format), max_size=3).map("".join)
QUERIES = st.sampled_from(["", "?"]) | st.builds("?{}&b{}&c{}".format, PAIRS, PAIRS, PAIRS)


def as_written(uri: str) -> tuple[str, str, str, str]:
    """Return scheme, host, port and the rest of an accepted redirect URI, as written."""
    match = re.fullmatch(r"(https?)://(\[::1\]|[^/?:]*)(?::([0-9]+))?([/?].*)?", uri)
    assert match
    scheme, host, port, tail = match.groups("")
    return scheme, host, port, tail
