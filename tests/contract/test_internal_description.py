"""The description of the internal listener: valid, complete, with correct examples.

Every test with the fixture `internal` checks its answers against this description.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from starlette.routing import Route

from mithril import app
from mithril.openapi import document as openapi_document
from support import described
from support.servers import Server

pytestmark = pytest.mark.anyio

DOCUMENT: dict[str, Any] = json.loads(openapi_document.render("internal", "http://127.0.0.1:4001").content)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def test_it_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT))).validate()
    for schema in [node["schema"] for node in nodes(DOCUMENT) if "schema" in node]:
        jsonschema_rs.meta.validate(schema)


def test_every_reference_leads_somewhere() -> None:
    references = [node for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)]
    assert references
    assert all(node["$ref"].startswith("#/") and described.resolved(node) for node in references)


def test_every_route_is_described_and_every_described_operation_has_a_route() -> None:
    routes = {
        (method, route.path_format)
        for route in app.INTERNAL
        if isinstance(route, Route)
        for method in ({name.upper() for name in described.METHODS} if route.methods is None else route.methods)
        if method != "HEAD"
    }
    assert {(method, path) for method, path, _ in described.operations()} == routes


def test_every_operation_has_an_id_a_summary_and_a_description() -> None:
    identifiers = [operation["operationId"] for _, _, operation in described.operations()]
    assert len(set(identifiers)) == len(identifiers)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for _, path, operation in described.operations():
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        named = {p["name"] for p in map(described.resolved, operation["parameters"]) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), path


def test_every_answer_in_the_envelope_has_an_example_and_examples_match() -> None:
    for _, path, operation in described.operations():
        for status, response in operation["responses"].items():
            for media in described.resolved(response).get("content", {}).values():
                examples = [each["value"] for each in media.get("examples", {}).values()]
                if "meta" in str(media.get("schema")):
                    assert {each["meta"]["code"] for each in examples} == {int(status)}, (path, status)
                for each in examples:
                    described.validator(media["schema"]).validate(each)
    for node in [node for node in nodes(DOCUMENT) if "schema" in node and "examples" in node]:
        for each in node["examples"].values():
            described.validator(node["schema"]).validate(each["value"])


async def test_the_internal_description_is_served_on_the_internal_listener_only(
    server: Server, internal: httpx.AsyncClient
) -> None:
    served = (await internal.get("/openapi.json")).json()
    assert served == DOCUMENT | {"servers": [{"url": str(internal.base_url).rstrip("/")}]}
    assert (await internal.get("/docs")).status_code == 200
    async with httpx.AsyncClient(base_url=server.url) as public:
        described_there = (await public.get("/openapi.json")).json()["paths"]
    assert [path for path in described_there if "/admin" in path] == ["/admin/roles", "/admin/roles/{id}"]


async def test_nothing_under_admin_answers_on_the_public_port_but_roles_to_a_reader(http: httpx.AsyncClient) -> None:
    for method, path, _ in described.operations():
        if path.startswith("/admin"):
            url = re.sub(r"{\w+}", "1380df72-275a-11e7-93ae-92361f002671", path)
            is_published = path in ("/admin/roles", "/admin/roles/{id}")
            expected = (401 if method == "GET" else 405) if is_published else 404
            assert (await http.request(method, url)).status_code == expected, (method, path)
