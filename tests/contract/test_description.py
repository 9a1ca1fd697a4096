"""The API description: valid, complete, with correct examples, and true for the answers of a real server."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources as package_files
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import jsonschema_rs
import pytest
import schemathesis
from starlette.routing import BaseRoute, Route

from mithril import app
from mithril.connections import fields, redirect_uris
from mithril.database import lists
from mithril.health import routes as health_routes
from mithril.openapi import document, files
from mithril.pages import routes as pages_routes
from mithril.validation.bodies import Body
from mithril.web import query_parameters
from support import factories
from support.factories import Db, bearer
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

DOCUMENT: dict[str, Any] = json.loads(document.render("public", "http://127.0.0.1:4000").content)
METHODS = ("get", "put", "post", "delete", "patch")
PAGING = ("page", "page_number", "page_size")
PAGED = ("listClients", "listClientConnections", "listConnectionHistory", "listRoles", "listOwnApprovals")
ALL_SCOPES = "client:read connection:read connection:write connection:refresh_secret connection:delete role:read"
ALL_SCOPES += " app:read_pis app:delete_pis"
NEW = {"redirect_uri": "https://new.example.com/callback"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


OPERATIONS = {operation["operationId"]: operation for _, _, operation in operations()}
UPDATE = OPERATIONS["updateClientConnection"]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return the node that a `$ref` names, or the node itself when it is not a reference."""
    if "$ref" not in node:
        return node
    found: Any = DOCUMENT
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/")]
    return resolved(found)


def validator(schema: Any) -> Any:
    """Return a validator of one schema of the document. It checks formats and resolves references in the document."""
    root = {"allOf": [schema], "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def responses(operation: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((int(status), resolved(response)) for status, response in operation["responses"].items())


# Validity


def test_it_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT))).validate()


def test_every_schema_is_json_schema() -> None:
    for schema in [node["schema"] for node in nodes(DOCUMENT) if "schema" in node]:
        jsonschema_rs.meta.validate(schema)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_reference_leads_somewhere() -> None:
    references = [node for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)]
    assert references
    assert all(node["$ref"].startswith("#/") and resolved(node) for node in references)


def test_every_component_is_used() -> None:
    used = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)}
    kinds = set(DOCUMENT["components"]) - {"securitySchemes"}
    assert {f"#/components/{kind}/{name}" for kind in kinds for name in DOCUMENT["components"][kind]} == used


@pytest.mark.parametrize("described", [document.load(), document.load_internal()], ids=["public", "internal"])
def test_no_description_is_cut_at_a_comma(described: dict[str, Any]) -> None:
    """In YAML's braces the rest of it would become a keyword without a value."""
    schemas = [node["schema"] for node in nodes(described["paths"]) if "schema" in node]
    for node in nodes([schemas, described["components"]["schemas"]]):
        assert None not in node.values(), node


def test_every_component_of_the_files_is_in_one_of_the_documents() -> None:
    def names(described: dict[str, Any]) -> set[tuple[str, str]]:
        return {(kind, name) for kind, named in described["components"].items() for name in named}

    written = names(document.merged("public")) | names(document.merged("internal"))
    assert written - {("schemas", "Refusal")} == names(document.load()) | names(document.load_internal())


# Completeness


def described(routes: Sequence[BaseRoute]) -> set[tuple[str, str]]:
    """Return method and path of each route, without HEAD, which RFC 9110 defines for every GET."""
    return {(m, r.path) for r in routes if isinstance(r, Route) for m in (r.methods or set()) - {"HEAD"}}


def test_every_public_route_is_described_and_every_described_operation_has_a_route() -> None:
    for_browsers = described(pages_routes.ROUTES)  # two pages for browsers, which the introduction describes
    assert {(method, path) for method, path, _ in operations()} == described(app.PUBLIC) - for_browsers
    assert all(path in DOCUMENT["info"]["description"] for path in ("/sign-in", "/oauth2/authorize", "/console"))


def test_the_probes_of_both_listeners_are_described() -> None:
    assert described(health_routes.ROUTES) <= described(app.PUBLIC)
    assert described(health_routes.ROUTES) <= described(app.INTERNAL)


def test_every_operation_has_an_id_a_summary_and_a_description() -> None:
    identifiers = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(identifiers)) == len(identifiers)
    for _, path, operation in operations():
        assert operation["summary"]
        assert operation["description"]
        assert set(re.findall(r"{(\w+)}", path)) == {
            p["name"] for p in map(resolved, operation["parameters"]) if p["in"] == "path"
        }


def test_every_operation_below_api_names_its_method_and_its_scopes() -> None:
    for _, path, operation in operations():
        if path.startswith("/api/"):
            first_line = operation["description"].partition("\n")[0]
            number = operation["x-esoz-method"]
            assert re.fullmatch(r"API-009-\d{3}-\d{3}-\d{4}", number or "API-009-000-000-0000")
            assert first_line.startswith(f"Method {number}," if number else ("Not a method of ESOZ", "ESOZ gives"))
            assert all(f"`{scope}`" in first_line for scope in operation["x-required-scopes"])
            assert all(scopes["bearer"] == operation["x-required-scopes"] for scopes in operation["security"])
        elif "Service" in operation["tags"]:
            assert operation["security"] == []


def test_every_answer_has_a_request_id_and_json_answers_have_an_example() -> None:
    for _, _, operation in operations():
        for status, response in responses(operation):
            assert "X-Request-ID" in response["headers"]
            for media in response.get("content", {}).values():
                is_envelope = "$ref" in media.get("schema", {})
                codes = {example["value"]["meta"]["code"] for example in media.get("examples", {}).values()}
                assert codes == ({status} if is_envelope else set())


@pytest.mark.parametrize(
    ("schema", "name", "body"),
    [
        ("ConnectionUpdate", "connection_update.json", fields.CONNECTION_UPDATE),
        ("RedirectUriCheck", "redirect_uri_check.json", fields.REDIRECT_URI_CHECK),
        ("SecretRefresh", "refresh_secret.json", fields.REFRESH_SECRET),
    ],
)
def test_the_request_schema_is_the_published_file(schema: str, name: str, body: Body) -> None:
    file = package_files.files("mithril.connections").joinpath(name).read_bytes()
    assert json.loads(file) == body.schema
    published = {key: value for key, value in body.schema.items() if key not in ("$schema", "title")}
    assert without_examples(DOCUMENT["components"]["schemas"][schema]) == published


def without_examples(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema["properties"].items()
    return schema | {"properties": {n: {k: v for k, v in p.items() if k != "examples"} for n, p in properties}}


def test_the_body_is_the_published_schema_and_the_pattern_that_the_rules_keep_to() -> None:
    published, narrower = UPDATE["requestBody"]["content"]["application/json"]["schema"]["allOf"]
    assert published == {"$ref": "#/components/schemas/ConnectionUpdate"}
    accepted = {"type": "string", "pattern": redirect_uris.ACCEPTED_PATTERN}
    assert without_examples(narrower) == {"type": "object", "properties": {"redirect_uri": accepted}}


@pytest.mark.parametrize("name", ["updateClientConnection", "refreshClientSecret", "deleteClientConnection"])
def test_if_match_is_described(name: str) -> None:
    (parameter,) = map(resolved, OPERATIONS[name]["x-conditional-parameters"])
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("If-Match", "header", False)


def test_the_limits_of_pages_are_those_of_the_code() -> None:
    parameters = DOCUMENT["components"]["parameters"]
    paging = DOCUMENT["components"]["schemas"]["Paging"]["properties"]
    assert [parameters[name]["schema"]["default"] for name in ("page", "page_size")] == [
        1,
        query_parameters.DEFAULT_SIZE,
    ]
    assert paging["page_size"]["maximum"] == query_parameters.LARGEST_SIZE
    assert list(paging) == ["page_number", "page_size", "total_entries", "total_pages", "next"]
    for name in PAGING:
        assert query_parameters.positive(str(parameters[name]["schema"]["maximum"]))
        with pytest.raises(query_parameters.InvalidValue):
            query_parameters.positive(str(parameters[name]["schema"]["maximum"] + 1))


def test_every_paged_list_takes_the_parameters_of_pages() -> None:
    for name, operation in OPERATIONS.items():
        parameters = {parameter.get("$ref", "").rpartition("/")[2] for parameter in operation["parameters"]}
        assert (parameters & set(PAGING) == set(PAGING)) == (name in PAGED), name


def test_urgent_and_paging_are_only_where_they_are_published() -> None:
    urgent = {"logIn": ["next_step"], "initFactor": ["next_step"], "authorizeApproval": ["redirect_uri"]}
    for name, operation in OPERATIONS.items():
        answered = [found for status, response in responses(operation) if status < 300 for found in envelopes(response)]
        for properties in answered:
            found = resolved(properties["urgent"])["properties"] if "urgent" in properties else {}
            assert list(found) == urgent.get(name, []), name
            assert ("paging" in properties) == (name in PAGED), name
            assert set(properties) <= {"meta", "data", "urgent", "paging"}, name


def envelopes(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the properties of an answer in the envelope; the schema must allow no others."""
    for media in response.get("content", {}).values():
        schema = resolved(media.get("schema", {}))
        if "meta" in schema.get("properties", {}):
            assert schema["additionalProperties"] is False
            yield schema["properties"]


# Examples


def examples(media: dict[str, Any]) -> list[Any]:
    return [example["value"] for example in media.get("examples", {}).values()] + [
        media[key] for key in ("example",) if key in media
    ]


def leaves(schema: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parts of a schema that have no parts, each with its name."""
    parts = dict(schema.get("properties", {}))
    parts |= {"[]": schema["items"]} if "items" in schema else {}
    branches = [branch for key in ("allOf", "anyOf", "oneOf") for branch in schema.get(key, ())]
    parts |= {str(number): branch for number, branch in enumerate(branches)}
    for key, part in parts.items():
        yield from leaves(part, f"{name}.{key}")
    if not parts and "$ref" not in schema:
        yield name, schema


def test_every_property_has_an_example() -> None:
    """Otherwise generated documentation shows `string`, and /docs proposes it."""
    operations = [(name, each) for name, each in OPERATIONS.items() if name != "getDescription"]
    bodies = [(name, media) for name, each in operations for media in contents(each)]
    assert all(examples(media) for _, media in bodies)
    schemas = [*DOCUMENT["components"]["schemas"].items(), *((name, media.get("schema", {})) for name, media in bodies)]
    without = {
        part
        for name, schema in schemas
        for part, leaf in leaves(schema, name)
        if not {"examples", "enum"} & leaf.keys() and leaf.get("type") not in ("null", "boolean")
    }
    assert without == {
        "SearchText",  # of a parameter: an example would become a filter
        "Invalid.rules.[].params.1.[]",  # lists that are empty
        "refreshClientSecret.2.[]",
    }


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the contents of the body and of the answers, but for pages and files."""
    found = [operation.get("requestBody", {}), *(response for _, response in responses(operation))]
    for each in found:
        yield from (each["content"][t] for t in each.get("content", {}) if t.startswith("application/"))


def test_every_enumeration_has_a_type_and_none_is_a_const() -> None:
    """Generators of code know no other."""
    for node in nodes([DOCUMENT["paths"], DOCUMENT["components"]]):
        assert "const" not in node
        assert "type" in node or not isinstance(node.get("enum"), list), node


def test_every_example_matches_its_schema() -> None:
    with_schema = [node for node in nodes(DOCUMENT) if "schema" in node and examples(node)]
    assert with_schema
    for node in with_schema:
        for example in examples(node):
            validator(node["schema"]).validate(example)


def test_the_examples_of_the_body_are_accepted() -> None:
    for example in examples(UPDATE["requestBody"]["content"]["application/json"]):
        assert redirect_uris.problems(example["redirect_uri"]) == []


def test_the_examples_of_a_check_are_what_the_rules_say() -> None:
    check = OPERATIONS["checkRedirectUri"]
    asked = check["requestBody"]["content"]["application/json"]["examples"]
    answered = check["responses"]["200"]["content"]["application/json"]["examples"]
    assert {
        name: redirect_uris.verdict(redirect_uris.problems(e["value"]["redirect_uri"])) for name, e in asked.items()
    } == {name: example["value"]["data"] for name, example in answered.items()}


# The answers of a server


def assert_described(response: httpx.Response, operation: dict[str, Any]) -> None:
    """Fail unless the description has this status with these headers and this body, which names the status too."""
    answers = dict(responses(operation))
    assert response.status_code in answers, response.text
    answer = answers[response.status_code]
    for name, header in ((name, resolved(header)) for name, header in answer["headers"].items()):
        assert name in response.headers or not header.get("required", False), name
        if name in response.headers and header["schema"].get("type") == "string":
            validator(header["schema"]).validate(response.headers[name])
    media_type = response.headers.get("content-type", "").partition(";")[0]
    assert media_type in (answer.get("content") or {""}), media_type
    if media_type == "application/json":
        validator(answer["content"][media_type]["schema"]).validate(response.json())
        assert response.json().get("meta", {}).get("code", response.status_code) == response.status_code


async def test_the_usual_answers_of_an_update_are_described(http: httpx.AsyncClient, db: Db) -> None:
    owner, stranger = await factories.client(db), await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    reader = factories.Client(owner.id, await factories.user(db))
    own, foreign = bearer(await factories.token(db, client=owner)), bearer(await factories.token(db, client=stranger))
    scopeless = bearer(await factories.token(db, client=reader, scope="connection:read"))
    missing = f"/api/clients/{owner.id}/connections/{uuid4()}"
    as_json = {"Content-Type": "application/json"}
    good = json.dumps(NEW).encode()

    async def answer(content: bytes, *headers: dict[str, str], path: str = connection.path) -> int:
        merged = as_json | {name: value for part in headers for name, value in part.items()}
        response = await http.patch(path, content=content, headers=merged)
        assert_described(response, UPDATE)
        return response.status_code

    assert await answer(good, own) == 200
    assert await answer(b"{", own) == 400
    assert await answer(good) == 401
    assert await answer(good, bearer("no-such-token")) == 401
    assert await answer(good, scopeless) == 403
    assert await answer(good, foreign) == 403
    assert await answer(good, own, path=missing) == 404
    assert await answer(good, own, {"If-Match": '"9"'}) == 412
    assert await answer(b" " * 70_000, own) == 413
    assert await answer(good, own, path=f"{connection.path}?{'x' * 9_000}") == 414
    assert await answer(good, own, {"Content-Type": "text/plain"}) == 415
    assert await answer(b"{}", own) == 422
    assert await answer(b"[]", own) == 422
    assert await answer(b'{"redirect_uri": "http://Example.com/#x", "secret": 1}', own) == 422
    assert await answer(b'{"redirect_uri": "https://Example.com:443/"}', own) == 422
    assert await answer(good, own, {"X-Long": "x" * 40_000}) == 431


@dataclass(frozen=True)
class Sender:
    """Sends requests, checks the answers against the description, and returns the status codes."""

    http: httpx.AsyncClient
    names: dict[str, str]
    """What stands for the parameters of paths."""

    async def __call__(self, operation_id: str, *headers: dict[str, str], query: str = "", **request: Any) -> int:
        method, path, operation = next(found for found in operations() if found[2]["operationId"] == operation_id)
        merged = {name: value for part in headers for name, value in part.items()}
        url = path.format(**(self.names | request.pop("names", {}))) + query
        response = await self.http.request(method, url, headers=merged, **request)
        assert_described(response, operation)
        return response.status_code


@dataclass(frozen=True)
class People:
    """A clinic that works through a MIS, and other callers."""

    sender: Sender
    owner: dict[str, str]
    admin: dict[str, str]
    api_key: dict[str, str]
    foreign_api_key: dict[str, str]
    names: dict[str, str]


@pytest.fixture
async def people(http: httpx.AsyncClient, db: Db) -> People:
    """Return the headers of the callers, and a connection of the clinic with the MIS."""
    broker = await factories.client(db, client_type="MIS", broker_scope=ALL_SCOPES)
    clinic = await factories.client(db, access_type="BROKER")
    admin = await factories.client(db, client_type="NHS")
    own = await factories.connection(db, client_id=broker.id)
    foreign = await factories.connection(db, client_id=admin.id)
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=broker.id)
    names = {"client_id": str(clinic.id), "connection_id": str(connection.id), "id": str(uuid4()), "event_id": "1"}
    return People(
        sender=Sender(http, names),
        owner=bearer(await factories.token(db, client=clinic, scope=ALL_SCOPES), api_key=own.secret),
        admin=bearer(await factories.token(db, client=admin, scope=ALL_SCOPES)),
        api_key={"API-key": own.secret},
        foreign_api_key={"API-key": foreign.secret},
        names=names,
    )


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.get("x-required-scopes")])
async def test_the_described_scope_is_required(http: httpx.AsyncClient, db: Db, people: People, name: str) -> None:
    (scope,) = OPERATIONS[name]["x-required-scopes"]
    caller = await factories.client(db, client_type="NHS")
    others = " ".join(set(ALL_SCOPES.split()) - {scope})
    without = bearer(await factories.token(db, client=caller, scope=others))
    assert await people.sender(name, without) == 403
    assert await people.sender(name, bearer(await factories.token(db, client=caller, scope=scope))) != 403


@pytest.mark.parametrize("name", ["listOwnRoles", "getOwnUser", "checkRedirectUri"])
async def test_without_a_described_scope_none_is_required(db: Db, people: People, name: str) -> None:
    caller = bearer(await factories.token(db, client=await factories.client(db), scope=""))
    assert await people.sender(name, caller, json=NEW if name == "checkRedirectUri" else None) == 200
    assert await people.sender(name, {}) == 401


@pytest.mark.parametrize("name", PAGED)
async def test_the_usual_answers_of_a_list_are_described(people: People, name: str) -> None:
    send = people.sender
    for query in ("", "?page=2&page_size=1", "?page_number=7", "?page_size=501", "?page=&page_size="):
        assert await send(name, people.owner, query=query) == 200
        assert await send(name, people.admin, query=query) == 200
    assert await send(name, people.owner, query="?page=0&page_size=x&page_number=1.0") == 422
    assert await send(name, {}) == 401
    assert await send(name, people.owner, query="?" + "x" * 9_000) == 414
    assert await send(name, people.owner, {"X-Long": "x" * 40_000}) == 431


async def test_the_filters_of_the_lists_are_described(people: People) -> None:
    client_id = people.names["client_id"]
    for name, filters in (
        ("listClients", {"id": client_id, "user_id": client_id, "name": "100%", "is_blocked": "false"}),
        ("listClientConnections", {"consumer_id": client_id, "redirect_uri": "HTTPS://"}),
        ("listRoles", {"name": "100%"}),
        ("listOwnApprovals", {"client_ids": f"client-{client_id}", "client_names": "client_name-100%"}),
    ):
        described_filters = {p["name"] for p in OPERATIONS[name]["parameters"] if "name" in p}
        assert described_filters == set(filters)
        for parameter in filters:
            assert await people.sender(name, people.admin, params={parameter: filters[parameter]}) == 200
            assert await people.sender(name, people.admin, params={parameter: "\0"}) == 422


async def test_a_bounded_list_is_described(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "COUNT_LIMIT", 1)
    assert await people.sender("listClientConnections", people.owner) == 200


async def test_the_usual_answers_of_a_client_are_described(people: People, db: Db) -> None:
    blocked = await factories.client(db, is_blocked=True)
    await db.execute("UPDATE clients SET block_reason = 'moved' WHERE id = $1", blocked.id)
    assert await people.sender("getClient", people.owner) == 200
    assert await people.sender("getClient", people.admin, names={"client_id": str(blocked.id)}) == 200
    assert await people.sender("getClient", people.owner, names={"client_id": str(blocked.id)}) == 403
    assert await people.sender("getClient", people.admin, names={"client_id": str(uuid4())}) == 404
    assert await people.sender("getClient", people.admin, names={"client_id": "nonsense"}) == 404


async def test_the_usual_answers_of_a_connection_are_described(people: People) -> None:
    send = people.sender
    assert await send("listClientConnections", people.admin, names={"client_id": "nonsense"}) == 404
    assert await send("getClientConnection", people.owner) == 200
    assert await send("getClientConnection", people.owner, {"If-None-Match": '"1"'}) == 304
    assert await send("getClientConnection", people.owner, names={"connection_id": str(uuid4())}) == 404
    assert await send("getClientConnection", people.owner, names={"client_id": str(uuid4())}) == 403


async def test_the_usual_answers_of_a_refreshed_secret_are_described(people: People) -> None:
    send, name, as_json = people.sender, "refreshClientSecret", {"Content-Type": "application/json"}
    assert await send(name, people.owner) == 200
    assert await send(name, people.owner, json={"previous_secret_expires_in": 604_800}) == 200
    assert await send("getClientConnection", people.owner) == 200
    assert await send("listConnectionHistory", people.owner) == 200
    assert await send(name, people.admin) == 401
    assert await send(name, people.admin, {"API-key": "nobody's"}) == 401
    assert await send(name, people.admin, people.foreign_api_key) == 403
    assert await send(name, people.admin, people.api_key) == 200
    assert await send(name, people.owner, as_json, content=b"{") == 400
    assert await send(name, people.owner, names={"connection_id": str(uuid4())}) == 404
    assert await send(name, people.owner, {"If-Match": '"1"'}) == 412
    assert await send(name, people.owner, as_json, content=b" " * 70_000) == 413
    assert await send(name, people.owner, content=b"{}") == 415
    assert await send(name, people.owner, json={"previous_secret_expires_in": -1, "secret": "x"}) == 422


async def test_the_usual_answers_of_a_transition_are_described(people: People, db: Db) -> None:
    send, name = people.sender, "beginTransition"
    assert await send("getTransition", people.owner) == await send("cancelTransition", people.owner) == 404
    assert await send(name, people.owner, json={"redirect_uri": "https://old.example.com/callback"}) == 422
    assert await send(name, people.owner, json={"redirect_uri": "http://x", "lasts_seconds": 1, "more": 1}) == 422
    assert await send(name, people.owner, {"If-Match": '"9"'}, json=NEW) == 412
    assert await send(name, people.owner, json=NEW | {"lasts_seconds": 60}) == 200
    assert await send("getClientConnection", people.owner) == await send("listClientConnections", people.owner) == 200
    assert await send("getTransition", people.owner) == await send("listConnectionHistory", people.owner) == 200
    assert await send("cancelTransition", people.owner, {"If-Match": '"1"'}) == 412
    assert await send("cancelTransition", people.owner) == 200
    assert (
        await send(name, people.owner, json=NEW) == await send("updateClientConnection", people.owner, json=NEW) == 200
    )
    event = {"event_id": str(await db.fetchval("SELECT max(id) FROM audit_events"))}
    begun = {"event_id": str(int(event["event_id"]) - 1)}
    assert await send("revertConnectionEvent", people.owner, names=event) == 428
    assert await send("revertConnectionEvent", people.owner, {"If-Match": '"1"'}, names=event) == 412
    assert await send("revertConnectionEvent", people.owner, {"If-Match": "*"}, names=begun) == 409
    assert await send("revertConnectionEvent", people.owner, {"If-Match": "*"}, names={"event_id": "7654321"}) == 404
    assert await send("revertConnectionEvent", people.owner, {"If-Match": "*"}, names=event) == 200
    assert await send("listConnectionHistory", people.owner) == 200


async def test_the_usual_answers_of_an_ended_secret_are_described(people: People) -> None:
    send, name = people.sender, "endPreviousSecret"
    assert await send(name, people.owner) == 404
    assert await send("refreshClientSecret", people.owner, json={"previous_secret_expires_in": 60}) == 200
    assert await send(name, people.admin) == await send(name, people.admin, {"API-key": "nobody's"}) == 401
    assert await send(name, people.admin, people.foreign_api_key) == 403
    assert await send(name, people.owner, {"If-Match": '"1"'}) == 412
    assert await send(name, people.owner) == 200
    assert await send("listConnectionHistory", people.owner) == 200


async def test_the_usual_answers_of_a_deletion_are_described(people: People) -> None:
    send, name = people.sender, "deleteClientConnection"
    assert await send(name, people.owner, names={"client_id": str(uuid4())}) == 403
    assert await send(name, people.owner, {"If-Match": '"9"'}) == 412
    assert await send(name, people.owner, {"If-Match": '"1"'}) == 200
    assert await send(name, people.owner) == 404
    assert await send("getClientConnection", people.owner) == 404
    assert await send("listClientConnections", people.owner) == 200
    assert await send("listConnectionHistory", people.owner) == 200
    assert await send("listConnectionHistory", people.owner, names={"connection_id": str(uuid4())}) == 404


async def test_the_history_of_an_imported_connection_is_described(people: People, db: Db) -> None:
    await db.execute(
        "INSERT INTO audit_events (action, subject_id, client_id, new, request_id)"
        " SELECT 'connection.create', id, client_id, jsonb_build_object('client_id', client_id,"
        " 'consumer_id', consumer_id, 'redirect_uri', redirect_uri, 'secret_tail', secret_tail), 'mithril import'"
        " FROM connections WHERE id = $1",
        UUID(people.names["connection_id"]),
    )
    assert await people.sender("listConnectionHistory", people.admin) == 200


async def test_the_roles_of_a_caller_are_described(people: People, db: Db) -> None:
    role_id = await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, 'a:b') RETURNING id", f"ROLE {uuid4()}")
    await db.execute(
        "INSERT INTO user_roles (user_id, role_id, client_id) SELECT user_id, $1, id FROM clients WHERE id = $2",
        role_id,
        UUID(people.names["client_id"]),
    )
    assert await people.sender("listOwnRoles", people.owner) == 200
    assert await people.sender("getRole", people.owner, names={"id": str(role_id)}) == 200
    assert await people.sender("getRole", people.owner) == 404


async def test_the_usual_answers_of_a_check_of_scopes_are_described(people: People) -> None:
    send, name, as_json = people.sender, "checkScopes", {"Content-Type": "application/json"}
    own = {"client_id": people.names["client_id"], "scope": "connection:write no:such"}
    assert await send(name, people.owner, json=own) == 200
    assert await send(name, {}, json=own) == 401
    assert await send(name, people.owner, json=own | {"client_id": str(uuid4())}) == 403
    assert await send(name, people.owner, json=own | {"scope": " "}) == 422
    assert await send(name, people.owner, json=own | {"scope": 'a"', "more": 1}) == 422
    assert await send(name, people.owner, as_json, content=b"{") == 400
    assert await send(name, people.owner, as_json, content=b" " * 70_000) == 413
    assert await send(name, people.owner) == 415


async def test_the_approvals_of_a_caller_are_described(people: People, db: Db) -> None:
    client_id = UUID(people.names["client_id"])
    statement = "INSERT INTO apps (user_id, client_id, scope) SELECT user_id, id, 'a:b' FROM clients WHERE id = $1"
    approval_id = await db.fetchval(f"{statement} RETURNING id", client_id)
    named = {"id": str(approval_id)}
    assert await people.sender("listOwnApprovals", people.owner) == 200
    assert await people.sender("listOwnApprovals", people.owner, query="?client_ids=client-x") == 404
    assert await people.sender("getOwnApproval", people.owner, names=named) == 200
    assert await people.sender("getOwnApproval", people.admin, names=named) == 404
    assert await people.sender("deleteOwnApproval", people.owner, names=named) == 204
    assert await people.sender("deleteOwnApproval", people.admin, names=named) == 404


async def test_the_usual_answers_of_a_check_are_described(people: People) -> None:
    send, name, as_json = people.sender, "checkRedirectUri", {"Content-Type": "application/json"}
    for uri in ("https://a.example.com/", "https://A.example.com/", "", "http://*#\ud7ff", "https://localhost"):
        assert await send(name, people.owner, json={"redirect_uri": uri}) == 200
    assert await send(name, people.owner, as_json, content=b"{") == 400
    assert await send(name, people.owner, as_json, content=b" " * 70_000) == 413
    assert await send(name, people.owner) == 415
    assert await send(name, people.owner, json={"redirect_uri": None, "more": 1}) == 422


def exchange(server: Server, request: bytes) -> httpx.Response:
    """Send these bytes, and return the answer that comes before the connection is closed."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(request)
        head, _, body = connection.makefile("rb").read().decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return httpx.Response(int(status.split()[1]), headers=[f.partition(": ")[::2] for f in fields], text=body)


def test_input_that_is_not_http_is_described(server: Server) -> None:
    response = exchange(server, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
    assert response.status_code == 400
    for _, _, operation in operations():
        assert_described(response, operation)


async def new_caller(database_url: str) -> tuple[str, str]:
    """Return a path that the caller may name, and the caller's token."""
    db = await asyncpg.connect(database_url)
    owner = await factories.client(db)
    token = await factories.token(db, client=owner)
    await db.close()
    return f"/api/clients/{owner.id}/connections/{uuid4()}", token


def test_a_body_that_does_not_arrive_is_described(database_url: str) -> None:
    path, token = asyncio.run(new_caller(database_url))
    head = f"PATCH {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 40\r\n"
    with running_server(database_url=database_url, body_timeout=0.1) as slow:
        response = exchange(slow, head.encode() + b"Content-Type: application/json\r\n\r\n{")
    assert response.status_code == 408
    assert_described(response, UPDATE)


async def age(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    await db.execute("UPDATE alembic_version SET version_num = '0000'")
    await db.close()


def test_a_database_with_an_old_schema_is_described(database_url: str) -> None:
    asyncio.run(age(database_url))
    with running_server(database_url=database_url) as stale:
        response = httpx.get(f"{stale.url}/readyz")
    assert response.status_code == 503
    assert_described(response, DOCUMENT["paths"]["/readyz"]["get"])


async def test_the_other_answers_are_described(http: httpx.AsyncClient) -> None:
    for method, path, operation in operations():
        if "Service" not in operation["tags"]:
            continue
        for name in files.NAMES if "{file}" in path else [""]:
            response = await http.request(method, path.replace("{file}", name))
            assert response.status_code == 200
            assert_described(response, operation)


# Serving


async def test_the_description_is_served_as_json_with_the_url_of_its_server(http: httpx.AsyncClient) -> None:
    response = await http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == DOCUMENT | {"servers": [{"url": str(http.base_url).rstrip("/")}]}
    elsewhere = await http.get("/openapi.json", headers={"Host": "mithril.example.com"})
    assert elsewhere.json()["servers"] == [{"url": "http://mithril.example.com"}]
    assert elsewhere.headers["etag"] != response.headers["etag"]


def test_behind_a_proxy_only_the_public_description_names_the_public_url(database_url: str) -> None:
    with running_server(database_url=database_url, public_url="https://mithril.example.com/") as running:
        assert httpx.get(f"{running.url}/openapi.json").json()["servers"] == [{"url": "https://mithril.example.com"}]
        internal = httpx.get(f"{running.internal_url}/openapi.json").json()
        assert internal["servers"] == [{"url": running.internal_url}]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.js"])
async def test_a_cached_description_is_answered_with_304(http: httpx.AsyncClient, path: str) -> None:
    entity_tag = (await http.get(path)).headers["etag"]
    for known in (entity_tag, f'"other", W/{entity_tag}', "*"):
        again = await http.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", entity_tag)
    assert (await http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


# The page


async def test_the_files_of_the_docs_page_are_served(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="/docs/([^"]+)"', page.text))
    assert named == files.NAMES


@pytest.mark.parametrize("path", ["/docs", "/docs/", "//docs", "///docs/"])
async def test_the_docs_page_finds_its_files_whichever_slashes_lead_to_it(http: httpx.AsyncClient, path: str) -> None:
    page = await http.get(f"{http.base_url}{path}")
    script = await http.get(f"{http.base_url}/docs/docs.js")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r'fetch[(]"([^"]+)"[)]', script.text)
    assert len(links) == len(files.NAMES) + 2
    for link in links:
        assert (await http.get(page.url.join(link))).status_code == 200, link


async def test_the_docs_page_loads_no_foreign_files_and_runs_no_inline_script(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    for name in (files.PAGE, *files.OWN):
        assert not re.search(rb"https?://|<style|<script>|style=", files.read(name).content), name


@pytest.mark.parametrize(
    "name",
    ["docs.html", "public.yaml", "swagger-ui.js", "..%2Fpublic.yaml", "%2e%2e/public.yaml", "%00"],
)
def test_only_the_listed_files_are_served(server: Server, name: str) -> None:
    request = f"GET /docs/{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert exchange(server, request.encode()).status_code == 404
