"""Request bodies: which are accepted, which are refused, and the errors."""

import json
from typing import Any

import httpx
import pytest

from support import factories
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def path(db: Db) -> str:
    return (await factories.connection(db, client_id=(await factories.client(db)).id)).path


@pytest.fixture
async def caller(db: Db) -> dict[str, str]:
    """An administrator, who may name any client."""
    return bearer(await factories.token(db, client=await factories.client(db, client_type="NHS")))


async def send(http: httpx.AsyncClient, path: str, content: Any, **headers: str) -> httpx.Response:
    return await http.patch(path, content=content, headers=headers)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json;charset=utf8",
        "application/json; profile=connection; charset=utf-8",
        'application/json ; profile="https://example.com/;a" ;',
    ],
)
async def test_a_utf_8_charset_and_other_media_type_parameters_are_accepted(
    http: httpx.AsyncClient, path: str, caller: dict[str, str], content_type: str
) -> None:
    body = b'{"redirect_uri": "https://new.example.com/"}'
    response = await http.patch(path, content=body, headers=caller | {"Content-Type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json, text/plain",
     "application/json; charset=utf-16", "application/json; profile=x; charset=latin1", "application/json; profile",
     "application/json; profile=x, text/plain", "application/json" + "; " * 5_000 + ",", "text/json",
     "application/merge-patch+json"],
)  # fmt: skip
async def test_anything_but_json_is_an_invalid_content_type(
    http: httpx.AsyncClient, path: str, caller: dict[str, str], content_type: str | None
) -> None:
    headers = caller | ({} if content_type is None else {"Content-Type": content_type})
    response = await http.patch(path, content=b'{"redirect_uri": "https://new.example.com/"}', headers=headers)
    assert response.status_code == 415
    error = response.json()["error"]
    assert error["type"] == "content_type_invalid"
    assert error["invalid"] == [{"entry_type": "header", "entry": "Content-Type"}]


async def test_two_content_types_are_refused(http: httpx.AsyncClient, path: str, caller: dict[str, str]) -> None:
    headers = [*caller.items(), *JSON.items(), *JSON.items()]
    response = await http.patch(path, content=b"{}", headers=headers)
    assert response.status_code == 415


async def test_a_compressed_body_is_refused(http: httpx.AsyncClient, path: str, caller: dict[str, str]) -> None:
    response = await http.patch(path, content=b"x", headers=caller | JSON | {"Content-Encoding": "gzip"})
    assert response.status_code == 415


def padded(size: int) -> bytes:
    head, tail = b'{"redirect_uri": "https://new.example.com/"', b"}"
    return head + b" " * (size - len(head) - len(tail)) + tail


async def test_a_body_may_have_65536_bytes_and_no_more(
    http: httpx.AsyncClient, path: str, caller: dict[str, str]
) -> None:
    largest = await http.patch(path, content=padded(65_536), headers=caller | JSON)
    too_large = await http.patch(path, content=padded(65_537), headers=caller | JSON)
    assert largest.status_code == 200
    assert too_large.status_code == 413
    assert too_large.json()["error"] == {
        "type": "request_too_large",
        "message": "Request body is too large.",
        "invalid": [{"entry_type": "request", "rules": [{"rule": "size"}]}],
    }


async def test_a_body_without_a_length_is_limited_too(
    http: httpx.AsyncClient, path: str, caller: dict[str, str]
) -> None:
    async def megabyte() -> Any:
        for _ in range(128):
            yield b" " * 8_192

    response = await http.patch(path, content=megabyte(), headers=caller | JSON)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"


def nested(levels: int) -> bytes:
    return b'{"redirect_uri": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"), (b"  ", "empty"), (b"{", "truncated"), (b"redirect_uri=https://x", "malformed"),
        (b"{'redirect_uri': 'https://x'}", "malformed"), (b'{"redirect_uri": NaN}', "malformed"),
        (b'{"redirect_uri": "https://new.example.com/",}', "malformed"), (b"{} {}", "trailing"),
        (b'{"redirect_uri": "\xff"}', "UTF-8"), (b'\xef\xbb\xbf{"a": 1}', "malformed"),
        ('{"redirect_uri": "https://x"}'.encode("utf-16"), "malformed"),
        (b'{"redirect_uri": "\\ud800"}', ""), (b'{"redirect_uri": 1e999}', "range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "range"),
        (b'{"redirect_uri": "https://a.com", "redirect_uri": "https://b.com"}', "twice"),
        (b'{"redirect_uri": {"a": [{"b": 1, "b": 2}]}}', "twice"),
        (nested(33), "32 levels"), (b"[" * 60_000, "32 levels"),
    ],
)  # fmt: skip
async def test_anything_but_strict_json_is_malformed(
    http: httpx.AsyncClient, path: str, caller: dict[str, str], content: bytes, reason: str
) -> None:
    response = await http.patch(path, content=content, headers=caller | JSON)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "request_malformed"
    assert error["message"] == "Malformed request. Probably, you have sent corrupted JSON."
    (entry,) = error["invalid"]
    assert entry["entry_type"] == "request"
    assert entry["rules"][0]["rule"] == "json"
    assert reason in entry["rules"][0]["description"]


async def test_json_may_be_32_levels_deep(http: httpx.AsyncClient, path: str, caller: dict[str, str]) -> None:
    response = await http.patch(path, content=nested(32), headers=caller | JSON)
    assert response.status_code == 422


def entry(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"entry": name, "entry_type": "json_data_property", "rules": list(rules)}


def cast(actual: str, expected: str = "string") -> dict[str, Any]:
    description = f"type mismatch. Expected {expected} but got {actual}"
    return {"rule": "cast", "description": description, "params": {"expected": expected, "actual": actual}}


REQUIRED = {
    "rule": "required",
    "description": "required property redirect_uri was not present",
    "params": {"property": "redirect_uri"},
}
FORMAT = {
    "rule": "format",
    "description": 'string does not match pattern "^(https)://.+"',
    "params": {"pattern": "^(https)://.+"},
}


def unknown(name: str) -> dict[str, Any]:
    return {
        "rule": "schema",
        "description": "schema does not allow additional properties",
        "params": {"properties": [name]},
    }


@pytest.mark.parametrize(
    ("document", "invalid"),
    [
        ({}, [entry("$.redirect_uri", REQUIRED)]),
        ([], [entry("$", cast("array", "object"))]),
        (None, [entry("$", cast("null", "object"))]),
        ("https://x.com", [entry("$", cast("string", "object"))]),
        ({"redirect_uri": None}, [entry("$.redirect_uri", cast("null"))]),
        ({"redirect_uri": 1}, [entry("$.redirect_uri", cast("integer"))]),
        ({"redirect_uri": 1.5}, [entry("$.redirect_uri", cast("number"))]),
        ({"redirect_uri": True}, [entry("$.redirect_uri", cast("boolean"))]),
        ({"redirect_uri": ["https://x.com"]}, [entry("$.redirect_uri", cast("array"))]),
        ({"redirect_uri": {}}, [entry("$.redirect_uri", cast("object"))]),
    ],
)
async def test_a_document_of_the_wrong_shape_names_what_is_wrong(
    http: httpx.AsyncClient, path: str, caller: dict[str, str], document: Any, invalid: list[Any]
) -> None:
    response = await http.patch(path, content=json.dumps(document), headers=caller | JSON)
    assert response.status_code == 422
    assert response.json()["error"] == {
        "type": "validation_failed",
        "message": "Validation failed",
        "invalid": invalid,
    }


async def test_every_unknown_property_is_an_entry_of_its_own_and_its_value_is_not_repeated(
    http: httpx.AsyncClient, path: str, caller: dict[str, str]
) -> None:
    document = {"redirect_uri": "https://new.example.com/", "consumer_id": "x", "secret": "hunter2-value"}
    response = await http.patch(path, json=document, headers=caller)
    assert response.status_code == 422
    assert response.json()["error"]["invalid"] == [
        entry("$.consumer_id", unknown("consumer_id")),
        entry("$.secret", unknown("secret")),
    ]
    assert "hunter2-value" not in response.text


async def test_all_violations_of_one_entry_are_together_with_those_of_the_schema_first(
    http: httpx.AsyncClient, path: str, caller: dict[str, str]
) -> None:
    document = {"redirect_uri": "http://intranet/cb?code=1", "other": 1}
    response = await http.patch(path, json=document, headers=caller)
    found = {e["entry"]: e["rules"] for e in response.json()["error"]["invalid"]}
    assert set(found) == {"$.redirect_uri", "$.other"}
    first, *rest = found["$.redirect_uri"]
    assert first == FORMAT
    assert [rule["rule"] for rule in rest] == ["redirect_uri"] * 3
    assert [r["params"]["reason"] for r in rest] == ["scheme", "non_public_host", "reserved_parameter"]


async def test_a_redirect_uri_that_is_not_canonical_gets_a_suggestion(
    http: httpx.AsyncClient, path: str, caller: dict[str, str]
) -> None:
    document = {"redirect_uri": "https://MIS.Example.UA:443/Callback"}
    response = await http.patch(path, json=document, headers=caller)
    (rule,) = response.json()["error"]["invalid"][0]["rules"]
    assert rule["params"] == {"reason": "not_canonical"}
    assert rule["suggestion"] == "https://mis.example.ua/Callback"


async def test_localhost_is_refused_without_demo(http: httpx.AsyncClient, path: str, caller: dict[str, str]) -> None:
    response = await http.patch(path, json={"redirect_uri": "http://localhost:3000/cb"}, headers=caller)
    assert response.status_code == 422
