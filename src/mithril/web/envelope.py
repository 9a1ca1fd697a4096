"""The envelope of every JSON answer: `meta` beside `data` or `error` (rules CNV-4, CNV-5, CNV-11)."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors
from mithril.database.lists import Listed
from mithril.web import masking, requests

JSON = "application/json; charset=utf-8"


def answer_page(request: Request, listed: Listed[Any], view: Callable[[Any], Mapping[str, object]]) -> Response:
    """Answer with one page of a list (rules CNV-26, CNV-28, CNV-55). `view` turns a row into its JSON object."""
    pages = -(-listed.total_entries // listed.page.size)
    paging: dict[str, object] = {
        "page_number": listed.page.number,
        "page_size": listed.page.size,
        "total_entries": listed.total_entries,
        "total_pages": max(pages, 1),
    } | ({"next": listed.next} if listed.next else {})
    data = [view(row) for row in listed.rows]
    content = {"meta": _meta(request.scope, HTTPStatus.OK, "list"), "data": data, "paging": paging}
    return Response(msgspec.json.encode(content), HTTPStatus.OK, None, JSON)


def answer_without_data(request: Request) -> Response:
    """Answer with `meta` alone, after a deletion."""
    content = {"meta": _meta(request.scope, HTTPStatus.OK, "object")}
    return Response(msgspec.json.encode(content), HTTPStatus.OK, None, JSON)


def answer(
    request: Request,
    data: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    urgent: Mapping[str, object] | bool | None = None,
) -> Response:
    """Answer with `data` in the envelope (rules CNV-4, CNV-5). Its times must be aware UTC, its keys wire names.

    `urgent`: what the caller needs beside the data, for example the next step of a login.
    """
    kind = "list" if isinstance(data, list) else "object"
    content = {"meta": _meta(request.scope, status, kind), "data": data}
    if urgent is not None:
        content["urgent"] = urgent
    return Response(msgspec.json.encode(content), status, headers, JSON)


def error_body(
    error: errors.MithrilError, *, url: str, request_id: str | None, sandbox: Mapping[str, object] | None = None
) -> bytes:
    """Return the JSON of an error in the envelope (rules CNV-11, CNV-12, CNV-53)."""
    content: dict[str, Any] = {"type": error.type}
    if error.message is not None:
        content["message"] = error.message
    if error.invalid:
        content["invalid"] = error.invalid
    if isinstance(error, errors.OutcomeUnknown):
        content["operation_id"] = error.operation_id
    meta = {"code": error.status, "url": url, "type": "object", "request_id": request_id}
    return msgspec.json.encode({"meta": meta, "error": content} | ({"sandbox": sandbox} if sandbox else {}))


def _meta(scope: Scope, status: int, kind: str) -> dict[str, object]:
    return {"code": status, "url": url(scope), "type": kind, "request_id": scope["request_id"]}


def url(scope: Scope) -> str:
    """Return the URL of the resource, without the query and with secrets masked (rule CNV-6)."""
    return requests.origin(scope) + masking.in_answer(scope)
