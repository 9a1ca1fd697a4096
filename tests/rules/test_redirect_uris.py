"""The rules for redirect URIs: each alone, all together, and against other parsers.

The file is long because more than half of it is tables of redirect URIs.
"""

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import ada_url
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithril.connections import redirect_uri_hosts, redirect_uris
from mithril.connections.redirect_uris import ACCEPTED_PATTERN, Policy, is_demo_loopback, problems
from support.fuzzed_uris import (
    EDITS,
    GOOD,
    LOOPBACK,
    ORIGINS,
    PATHS,
    PIECES,
    QUERIES,
    SEEDS,
    as_written,
    edited,
    few_or_many,
    fuzzing,
    text,
    three,
)

VECTORS = json.loads(Path(__file__).with_name("redirect_uri_vectors.json").read_text())
DEMO = Policy(allow_loopback=True)
PUNYCODE = Policy(allow_punycode=True)
POLICIES = [Policy(), DEMO, PUNYCODE, Policy(allow_loopback=True, allow_punycode=True)]
ORDER = [
    *("empty", "too_long", "non_ascii", "illegal_character", "bad_percent_escape", "fragment"),
    *("not_absolute", "scheme", "no_authority", "not_canonical", "empty_host", "userinfo", "wildcard"),
    *("ip_literal", "percent_in_host", "port", "trailing_dot", "host_syntax", "non_public_host", "punycode"),
    *("encoded_control", "bad_utf8", "encoded_delimiter", "dot_segment", "double_slash"),
    *("reserved_parameter", "duplicate_parameter"),
]


def reasons(uri: str, policy: Policy = redirect_uris.STRICT) -> list[str]:
    return [problem.reason for problem in problems(uri, policy)]


def suggestions(uri: str, policy: Policy = redirect_uris.STRICT) -> list[str | None]:
    return [problem.suggestion for problem in problems(uri, policy)]


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["id"]) for vector in VECTORS])
def test_a_vector_has_exactly_its_reasons(vector: dict[str, Any]) -> None:
    assert reasons(vector["uri"]) == vector["reasons"]


@pytest.mark.parametrize(
    "uri",
    [
        "https://mis.example.ua",
        "https://mis.example.ua/",
        "https://mis.example.ua?tenant=7",
        "https://mis.example.ua:1/cb",
        "https://mis.example.ua:65535",
        "https://r3---sn-a.0x7f.1.example.com/cb",
        "https://" + "a" * 63 + ".ua/cb",
        "https://" + "a." * 125 + "com/cb",
        f"{GOOD}/" + "a" * (2047 - len(GOOD)),
        f"{GOOD}/.well-known/...;v=1/a..b/..a/~(x)!$,+=:@'",
        f"{GOOD}/%D0%86%20%3A%E2%82%AC",
        f"{GOOD}?a=%2e%2F%5c%25&b=..//;x&&c=:@/?&",
        f"{GOOD}?decode=1&codes=2&my_state=3&errors=4&error_=5&error_code=6&a%5Bcode%5D=7&value=code",
        f"{GOOD}?A=1&a=2&a%5B0%5D=3&a%5B1%5D=4",
        f"{GOOD}?",
    ],
)
def test_an_ordinary_redirect_uri_is_accepted(uri: str) -> None:
    assert reasons(uri) == []


REFUSED = [
    # The string
    ("https://" + "a" * 3000, "too_long host_syntax non_public_host"),
    (f"{GOOD}/" + "a" * (2048 - len(GOOD)), "too_long"),
    ("ж" * 1025, "too_long non_ascii"),
    (f"{GOOD}/\ud800", "non_ascii"),
    ("\ud800" * 683, "too_long non_ascii"),
    (f"{GOOD}/\u0661", "non_ascii"),
    (" ", "illegal_character"),
    (f"{GOOD}\x00", "illegal_character"),
    (f'{GOOD}?a="1"', "illegal_character"),
    (f"{GOOD}/a^b`c", "illegal_character"),
    (f"{GOOD}/[1]", "illegal_character"),
    (f"{GOOD}?a[]=1", "illegal_character"),
    (f"{GOOD}#[", "illegal_character fragment"),
    ("https://[a]@mis.example.ua/cb", "illegal_character userinfo"),
    ("https://mis.example.ua:[1]/cb", "illegal_character port"),
    (f"{GOOD}?name=O'Neil", "illegal_character"),
    (f"{GOOD}/%", "bad_percent_escape"),
    (f"{GOOD}/%4", "bad_percent_escape"),
    (f"{GOOD}?a=%zz", "bad_percent_escape"),
    (f"{GOOD}#", "fragment"),
    (f"{GOOD}?a#b?code=1", "fragment"),
    ("https://mis.example.ua#@evil.ua", "fragment"),
    # The scheme
    ("mis.example.ua/cb", "not_absolute"),
    ("/cb", "not_absolute"),
    ("://mis.example.ua/cb", "not_absolute"),
    ("1https://mis.example.ua/cb", "not_absolute"),
    ("/cb?next=https://mis.example.ua", "not_absolute"),
    ("cb#https://mis.example.ua/", "fragment not_absolute"),
    ("mis.example.ua:8443/cb", "scheme"),
    ("wss://LOCALHOST:0//?code=[", "scheme"),
    ("urn:ietf:wg:oauth:2.0:oob", "scheme"),
    ("http:/cb", "scheme no_authority"),
    ("https:", "no_authority"),
    ("https:mis.example.ua/cb", "no_authority"),
    ("https:?//mis.example.ua/cb", "no_authority"),
    ("HTTP://mis.example.ua/cb", "scheme not_canonical"),
    ("http://mis.example.ua:443/cb", "scheme"),
    ("http://localhost:3000/cb", "scheme non_public_host"),
    ("http://127.0.0.1/cb", "scheme ip_literal"),
    ("https://localhost:443/cb", "not_canonical non_public_host"),
    # The authority
    ("HTTPS://mis.example.ua/cb", "not_canonical"),
    ("https://", "empty_host"),
    ("https://?a=1", "empty_host"),
    ("https://:8443/cb", "empty_host"),
    ("https://user@/cb", "empty_host userinfo"),
    ("https://@mis.example.ua/cb", "userinfo"),
    ("https://mis.example.ua:443@mis.example.ua/cb", "userinfo"),
    ("https://User@localhost/cb", "userinfo"),
    ("https://a@127.0.0.1/cb", "userinfo ip_literal"),
    ("https://a@-b.ua:0/cb", "userinfo port host_syntax"),
    ("https://mis.example.*/cb", "wildcard"),
    ("https://[*]/cb", "wildcard"),
    (f"{GOOD}/*", "wildcard"),
    (f"{GOOD}?a=*", "wildcard"),
    ("https://*@localhost.example.ua/cb", "userinfo wildcard"),
    ("https://mis.example.ua:*/cb", "wildcard port"),
    ("https://2130706433/cb", "ip_literal"),
    ("https://0x7f000001/cb", "ip_literal"),
    ("https://0x/cb", "ip_literal"),
    ("https://127.1/cb", "ip_literal"),
    ("https://999.999.999.999/cb", "ip_literal"),
    ("https://1.2.3.4.5/cb", "ip_literal"),
    ("https://0X7F.09.0xg.0/cb", "not_canonical host_syntax"),
    ("https://127.0.0.1./cb", "ip_literal trailing_dot"),
    ("https://[::FFFF:1]/cb", "not_canonical ip_literal"),
    ("https://[::1]:99999/cb", "ip_literal port"),
    ("https://[::1]x:0/cb", "ip_literal"),
    ("https://[v1.a]/cb", "ip_literal"),
    ("https://[fe80::1%25eth0]/cb", "ip_literal percent_in_host"),
    ("https://127.0.0.%31/cb", "percent_in_host"),
    ("https://localhos%74/cb", "percent_in_host"),
    ("https://mis.example.ua:00/cb", "port"),
    ("https://mis.example.ua:080/cb", "port"),
    ("https://mis.example.ua:65536/cb", "port"),
    ("https://mis.example.ua:+80/cb", "port"),
    ("https://mis.example.ua:80:80/cb", "port"),
    ("https://mis.example.ua:" + "9" * 5000, "too_long port"),
    ("https://mis.local./cb", "trailing_dot non_public_host"),
    ("https://./cb", "trailing_dot host_syntax"),
    ("https://mis..ua/cb", "host_syntax"),
    ("https://.local/cb", "host_syntax"),
    ("https://mis-.example.ua/cb", "host_syntax"),
    ("https://_mis.example.ua/cb", "host_syntax"),
    ("https://mis!.example.ua/cb", "host_syntax"),
    ("https://a[1].example.ua/cb", "host_syntax"),
    ("https://" + "a" * 64 + ".ua/cb", "host_syntax"),
    ("https://" + "a." * 126 + "ua/cb", "host_syntax"),
    ("https://mis.0x7f/cb", "host_syntax"),
    ("https://mis.123/cb", "host_syntax"),
    ("https://mis.u1/cb", "host_syntax"),
    ("https://mis_x.local/cb", "host_syntax non_public_host"),
    ("https://web1/cb", "non_public_host"),
    ("https://mis.TEST/cb", "not_canonical non_public_host"),
    ("https://mis.home.arpa/cb", "non_public_host"),
    ("https://XN--80ak6aa92e.com/cb", "not_canonical punycode"),
    ("https://mis.xn--j1amh/cb", "punycode"),
    ("https://xn--80ak6aa92e/cb", "non_public_host punycode"),
    # Path and query
    (f"{GOOD}/%7f", "encoded_control"),
    (f"{GOOD}?a=%C2%80", "encoded_control"),
    (f"{GOOD}?a=%C2%9F", "encoded_control"),
    (f"{GOOD}?a=%252%25350a", "encoded_control"),
    (f"{GOOD}?a=%25250a", "encoded_control"),
    (f"{GOOD}?a=%25%30%61", "encoded_control"),
    (f"{GOOD}?a=%25%25%32%35%30%61", "encoded_control"),
    (f"{GOOD}/%ff", "bad_utf8"),
    (f"{GOOD}?%ED%A0%80=1", "bad_utf8"),
    (f"{GOOD}/%D0?%86", "bad_utf8"),
    (f"{GOOD}/a%2Fb", "encoded_delimiter"),
    (f"{GOOD}/a%5cb", "encoded_delimiter"),
    (f"{GOOD}/a%2eb", "encoded_delimiter"),
    (f"{GOOD}/100%25", "encoded_delimiter"),
    (f"{GOOD}/..", "dot_segment"),
    (f"{GOOD}/.;a=b", "dot_segment"),
    (f"{GOOD}/../x", "dot_segment"),
    (f"{GOOD}//", "double_slash"),
    ("https://mis.example.ua//", "double_slash"),
    (f"{GOOD}?Code=1", "reserved_parameter"),
    (f"{GOOD}?a=1&%73tate", "reserved_parameter"),
    (f"{GOOD}?%25%37%33tate=1", "reserved_parameter"),
    (f"{GOOD}?%C5%BFtate=1", "reserved_parameter"),
    (f"{GOOD}?+iss%20=1", "reserved_parameter"),
    (f"{GOOD}?error%2Bdescription=1", "reserved_parameter"),
    (f"{GOOD}?error.uri=1", "reserved_parameter"),
    (f"{GOOD}?access+token=1", "reserved_parameter"),
    (f"{GOOD}?code%5B%5D=1", "reserved_parameter"),
    (f"{GOOD}?code%5B%0A%5D=1", "encoded_control reserved_parameter"),
    (f"{GOOD}?session%5Bstate=1", "reserved_parameter"),
    (f"{GOOD}?a=1;scope=2", "reserved_parameter"),
    (f"{GOOD}?co%2580de=1", "reserved_parameter"),
    (f"{GOOD}?a&a", "duplicate_parameter"),
    (f"{GOOD}?a+b=1&%61%20b=2", "duplicate_parameter"),
    (f"{GOOD}?=1&=2", "duplicate_parameter"),
    # All violated rules, in their order
    ("a b%#*", "illegal_character bad_percent_escape fragment wildcard"),
    ("ж%#*" + "a" * 2048, "too_long non_ascii bad_percent_escape fragment wildcard"),
    (
        "http://U@MIS_x.example.UA.:0/%00/%ff/%2e/..//[?code&code#*",
        (
            "illegal_character fragment scheme not_canonical userinfo wildcard port trailing_dot host_syntax "
            "encoded_control bad_utf8 encoded_delimiter dot_segment double_slash reserved_parameter "
            "duplicate_parameter"
        ),
    ),
]


@pytest.mark.parametrize(("uri", "expected"), REFUSED)
def test_all_violated_rules_are_listed_in_their_order(uri: str, expected: str) -> None:
    assert reasons(uri) == expected.split()


@pytest.mark.parametrize("name", redirect_uris.RESERVED_PARAMETERS)
def test_every_parameter_of_an_authorization_response_is_reserved(name: str) -> None:
    assert reasons(f"{GOOD}?a=1&{name}=2") == ["reserved_parameter"]
    assert reasons(f"{GOOD}?{name}x=1&x{name}=2") == []


@pytest.mark.parametrize("label", sorted(redirect_uri_hosts.NON_PUBLIC_TOP_LABELS))
def test_a_special_use_label_is_refused_at_the_top_only(label: str) -> None:
    assert reasons(f"https://mis.{label}/cb") == ["non_public_host"]
    assert reasons(f"https://{label}.ua/cb") == []


@pytest.mark.parametrize("character", [chr(code) for code in range(128)])
def test_a_path_has_only_characters_of_rfc_3986(character: str) -> None:
    is_allowed = bool(re.fullmatch(r"[A-Za-z0-9\-._~!$&'()+,;=:@/?]", character))
    assert (reasons(f"{GOOD}/a{character}b") == []) is is_allowed


def test_every_reason_has_a_description_with_advice() -> None:
    assert list(redirect_uris.DESCRIPTIONS) == ORDER
    assert all(re.fullmatch(r"(The|A) .+; .+\.", text) for text in redirect_uris.DESCRIPTIONS.values())


@pytest.mark.parametrize(
    ("uri", "suggestion"),
    [
        ("HTTPS://MIS.Example.UA:443/Cb?A=B", "https://mis.example.ua/Cb?A=B"),
        ("https://mis.example.ua:443", "https://mis.example.ua"),
        ("https://MIS.example.ua:8443?x", "https://mis.example.ua:8443?x"),
    ],
)
def test_the_canonical_form_is_suggested(uri: str, suggestion: str) -> None:
    assert suggestions(uri) == [suggestion]


@pytest.mark.parametrize(
    "uri",
    [
        "HTTP://mis.example.ua/cb",
        "https://MIS.example.ua/cb#",
        "https://a@MIS.example.ua/cb",
        "https://MIS.test:443/cb",
        "HTTPS://mis.example.ua/cb?code=1",
    ],
)
def test_no_suggestion_would_be_refused(uri: str) -> None:
    assert "not_canonical" in reasons(uri)
    assert set(suggestions(uri)) == {None}


NO_LOOPBACK = [
    *("http://localhost.example.ua/cb", "http://mis.localhost/cb", "http://localhost./cb", "ftp://localhost/cb"),
    *("http://127.0.0.2/cb", "http://127.1/cb", "http://2130706433/cb", "http://[::2]/cb", "http://[0::1]/cb"),
    *("http://[::1/cb", "http://a@localhost/cb", "http://localhost@evil.ua/cb", "http:localhost/cb", "localhost"),
    *("http://localhost\\@evil.ua/cb", "http://localhost\n", " http://localhost", "http://localhost%2f/cb", ""),
    *("http://localhost/\n", "http://localhost/ж", "http://localhost/%"),
]


@pytest.mark.parametrize("uri", LOOPBACK)
def test_a_loopback_redirect_uri_is_accepted_with_demo_only(uri: str) -> None:
    assert reasons(uri, DEMO) == []
    assert reasons(uri, PUNYCODE) == reasons(uri) != []
    assert is_demo_loopback(uri)


@pytest.mark.parametrize("uri", NO_LOOPBACK)
def test_a_host_that_only_looks_like_loopback_is_refused_with_demo_too(uri: str) -> None:
    assert reasons(uri, DEMO) != []
    assert not is_demo_loopback(uri)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://localhost:0/../cb?code=1#", "fragment port dot_segment reserved_parameter"),
        ("HTTP://LocalHost:443/cb", "not_canonical"),
        ("http://a@localhost/cb", "scheme userinfo"),
        ("http://mis.example.ua/cb", "scheme"),
        ("https://mis.example.ua:443/cb", "not_canonical"),
        ("https://intranet/cb", "non_public_host"),
    ],
)
def test_the_demo_waives_no_other_rule(uri: str, expected: str) -> None:
    assert reasons(uri, DEMO) == expected.split()


def test_a_loopback_redirect_uri_is_suggested_in_lower_case_with_its_port() -> None:
    assert suggestions("HTTPS://LocalHost:443/cb", DEMO) == ["https://localhost:443/cb"]
    assert is_demo_loopback("HTTPS://LocalHost:443/cb")


@pytest.mark.parametrize("host", ["xn--80aaxgrpt.xn--j1amh", "xn--strae-oqa.de", "mis.xn--4gbrim", "mis.example.ua"])
def test_real_punycode_is_accepted_where_it_is_allowed(host: str) -> None:
    assert reasons(f"https://{host}/cb", PUNYCODE) == []


@pytest.mark.parametrize(
    "host",
    [
        "xn--.ua",
        "xn--a.ua",
        "xn---bbk.ua",  # another spelling of xn--bbk
        "xn--abc-.ua",  # abc, which needs no punycode
        "xn--e-xbb.ua",  # e and a combining accent, which NFC makes one letter
        "xn--ls8h.ua",  # an emoji
        "mis.xn--99999999",
    ],
)
def test_forged_punycode_is_refused_even_where_it_is_allowed(host: str) -> None:
    assert reasons(f"https://{host}/cb", PUNYCODE) == ["host_syntax"]


def _sixty_four_kilobytes() -> dict[str, str]:
    size = 65_536
    names = ("".join(letters) for letters in itertools.product("abcdefghijklmnop", repeat=4))
    return {
        "letters": "a" * size,
        "surrogates": "\ud800" * size,
        "path": GOOD + "/" * size,
        "dots": GOOD + "/.." * (size // 3),
        "escapes": GOOD + "/%C3%A9" * (size // 7),
        "escaped percents": GOOD + "?a=%" + "25" * (size // 2) + "00",
        # %25%25…2532532…: each decoded escape becomes a digit of the next one
        "nested escapes": GOOD + "?a=" + "%25" * (size // 6) + "2" + "532" * (size // 6),
        "one name": GOOD + "?" + "a&" * (size // 2),
        "names": GOOD + "?" + "=&".join(itertools.islice(names, size // 6)),
        "spaces in a name": GOOD + "?" + "+" * size + "cod",
        "brackets in a name": GOOD + "?" + "code%5B" * (size // 7),
        "labels": "https://" + "a." * (size // 2) + "ua",
        "numbers": "https://" + "1." * (size // 2) + "1",
        "hyphens": "https://a" + "-" * size + ".ua",
        "punycode": "https://" + "xn--80ak6aa92e." * (size // 15) + "ua",
        "one punycode label": "https://xn--" + "a" * size + ".ua",
        "upper case": "https://" + "A" * size,
        "at signs": "https://" + "@" * size,
        "colons": "https://" + ":" * size,
        "brackets": "https://" + "[" * size,
        "port": "https://mis.example.ua:" + "1" * size,
    }


@pytest.mark.parametrize("uri", [pytest.param(uri, id=name) for name, uri in _sixty_four_kilobytes().items()])
def test_a_long_redirect_uri_is_checked_in_linear_time(uri: str) -> None:
    started = time.process_time()
    assert "too_long" in reasons(uri, POLICIES[-1])
    assert time.process_time() - started < 0.4  # some 20 ms; anything quadratic takes seconds


def assert_means_the_same_to_everyone(uri: str) -> None:
    """Fail unless Python and a browser see the written scheme, host and port, and change no other byte."""
    scheme, host, port, tail = as_written(uri)
    python, browser = urlsplit(uri), ada_url.URL(uri)
    assert (python.scheme, python.hostname, str(python.port or "")) == (scheme, host.strip("[]"), port)
    # A browser omits the default port, which only a loopback redirect URI may have, and adds the slash of the path.
    shown = "" if port == {"http": "80", "https": "443"}[scheme] else f":{port}" * bool(port)
    assert (browser.protocol, browser.hostname, browser.port) == (f"{scheme}:", host, shown.removeprefix(":"))
    assert browser.href == f"{scheme}://{host}{shown}{'' if tail.startswith('/') else '/'}{tail}"
    assert (browser.username, browser.password, browser.hash) == ("", "", "")


@few_or_many(60, 300)
def test_an_edited_redirect_uri_is_refused_or_means_the_same_to_every_parser(examples: int) -> None:
    accepted = set()

    @settings(fuzzing, max_examples=examples)
    @given(EDITS, st.sampled_from(POLICIES))
    def judge(edits: list[tuple[int, int, str]], policy: Policy) -> None:
        for uri in (edited(seed, edits) for seed in SEEDS):
            if not reasons(uri, policy):
                accepted.add(uri)
                assert_means_the_same_to_everyone(uri)

    judge()
    assert len(accepted) > examples / 10  # of as many as two and a half times the examples, mostly; luck decides


@few_or_many(30, 150)
def test_a_composed_redirect_uri_is_refused_or_means_the_same_to_every_parser(examples: int) -> None:
    accepted = set()

    @settings(fuzzing, max_examples=examples)
    @given(origins=three(ORIGINS), paths=three(PATHS), queries=three(QUERIES))
    def judge(origins: list[str], paths: list[str], queries: list[str]) -> None:
        for uri in map("".join, itertools.product(origins, paths, queries)):
            if not reasons(uri, POLICIES[-1]):
                accepted.add(uri)
                assert_means_the_same_to_everyone(uri)

    judge()
    assert len(accepted) > 2 * examples


@few_or_many(60, 300)
def test_any_string_gets_the_same_reasons_twice_and_in_order(examples: int) -> None:
    @settings(fuzzing, max_examples=examples)
    @given(
        st.text(max_size=40)
        | st.text(max_size=40).map("https://{}".format)
        | st.lists(st.sampled_from(PIECES)).map("".join)
    )
    def judge(uri: str) -> None:
        for policy in POLICIES:
            listed = reasons(uri, policy)
            assert listed == reasons(uri, policy) == [reason for reason in ORDER if reason in listed]
        assert is_demo_loopback(uri) in {True, False}

    judge()


@settings(fuzzing, max_examples=300)
@given(text("% 25 %25 0 2 8 A C2 %30 %38 %41 %C2 %32%35 %2535", most=20))
def test_a_control_character_is_found_at_any_depth_of_encoding(escapes: str) -> None:
    decoded, is_control = escapes.encode(), False
    while (once := unquote_to_bytes(decoded)) != decoded:
        decoded = once
        is_control |= bool(re.search(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]", decoded))
    found = reasons(f"{GOOD}?a={escapes}")
    assert "bad_percent_escape" in found or ("encoded_control" in found) is is_control


@pytest.mark.parametrize(
    "uri",
    [
        *("https://example.com", "https://mis.example.ua/oauth/callback", "https://mis.example.ua:8443/cb/"),
        *("https://account-dev.ehealth.world/auth/redirect", "https://a.b.clinic.kyiv.ua/cb.php?tenant=7"),
        *(f"{GOOD}?id=1&legal_entity=%D0%9C%3A/", f"{GOOD}/7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a11", f"{GOOD}?mis_id"),
    ],
)
def test_the_pattern_matches_ordinary_redirect_uris(uri: str) -> None:
    assert re.fullmatch(ACCEPTED_PATTERN, uri)


def test_the_pattern_matches_no_refused_redirect_uri() -> None:
    refused = [
        *(uri for uri, _ in REFUSED),
        *(f"https://mis.{label}/cb" for label in redirect_uri_hosts.NON_PUBLIC_TOP_LABELS),
        *(f"{GOOD}?{name}=1" for name in redirect_uris.RESERVED_PARAMETERS),
        *(f"{GOOD}?a=1&{name}" for name in redirect_uris.RESERVED_PARAMETERS),
        *(f"{GOOD}?{name}&{name}" for name in ("a", "b", "bbb", "b_b", "tenant")),
        *(f"https://mis.example.ua:{port}" for port in ("", "0", "443", "0443", "65536", "70000", "99999", "100000")),
        *(f"{GOOD}?a={value}" for value in ("%00", "%7F", "%2500", "%D0", "%D0%41", "%C2%80", "'")),
        GOOD + ("/" + "a" * 63) * 32,
        *(f"{GOOD}/{segment}/a" for segment in ("", ".", "..", ".;", "..;a", "*", "%2e", "[")),
        *(f"https://{host}/cb" for host in ("ua", "1.2", "a..ua", "-a.ua", "a-.ua", "a_b.ua", "xn--a.ua", "A.ua")),
    ]
    assert [uri for uri in refused if not reasons(uri)] == []
    assert [uri for uri in refused if re.fullmatch(ACCEPTED_PATTERN, uri)] == []


@few_or_many(20, 90)
def test_every_redirect_uri_that_matches_the_pattern_is_accepted(examples: int) -> None:
    in_rust = jsonschema_rs.validator_for({"type": "string", "pattern": ACCEPTED_PATTERN})
    accepted = set()

    @settings(fuzzing, max_examples=examples)
    @given(three(st.from_regex(ACCEPTED_PATTERN, fullmatch=True)))
    def judge(uris: list[str]) -> None:
        # The pattern has separate origin, path and query, so these can be combined: 27 redirect URIs.
        parts = [urlsplit(uri) for uri in uris]
        origins, paths = {f"https://{part.netloc}" for part in parts}, {part.path for part in parts}
        queries = {uri.removeprefix(uri.partition("?")[0]) for uri in uris}
        for uri in map("".join, itertools.product(origins, paths, queries)):
            assert re.fullmatch(ACCEPTED_PATTERN, uri)
            assert in_rust.is_valid(uri)
            assert reasons(uri) == []
            accepted.add(uri)

    judge()
    assert len(accepted) > 2 * examples
