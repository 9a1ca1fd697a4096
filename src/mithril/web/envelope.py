"""The envelope of every JSON answer: `meta` beside `data` or `error` (contract.md 2.1, 2.2)."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors
from mithril.database.database import Listed
from mithril.web import requests

JSON = "application/json; charset=utf-8"


def answer_page(request: Request, listed: Listed[Any], view: Callable[[Any], Mapping[str, object]]) -> Response:
    """One page of a list in the envelope (contract.md 2.1), each row through `view`.

    Where counting stopped, `paging` says so: `total_entries` is then the least number that it can be.
    """
    pages = -(-listed.total_entries // listed.page.size)
    paging: dict[str, object] = {
        "page_number": listed.page.number,
        "page_size": listed.page.size,
        "total_entries": listed.total_entries,
        "total_pages": max(pages, 1),
    }
    if listed.is_bounded:
        paging["total_is_at_least"] = True
    data = [view(row) for row in listed.rows]
    content = {"meta": _meta(request.scope, HTTPStatus.OK, "list"), "data": data, "paging": paging}
    return Response(msgspec.json.encode(content), HTTPStatus.OK, None, JSON)


def answer_without_data(request: Request) -> Response:
    """Only `meta`: there is nothing left to show."""
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
    """`data` in the envelope (contract.md 2.1). Its dates must be aware UTC; keys are wire names.

    `urgent`: what the caller is to do next, beside the data.
    """
    kind = "list" if isinstance(data, list) else "object"
    content = {"meta": _meta(request.scope, status, kind), "data": data}
    if urgent is not None:
        content["urgent"] = urgent
    return Response(msgspec.json.encode(content), status, headers, JSON)


def error_body(error: errors.MithrilError, *, url: str, request_id: str | None) -> bytes:
    """An error in the envelope (contract.md 2.2)."""
    content: dict[str, Any] = {"type": error.type}
    if error.message is not None:
        content["message"] = error.message
    if error.invalid:
        content["invalid"] = error.invalid
    meta = {"code": error.status, "url": url, "type": "object", "request_id": request_id}
    return msgspec.json.encode({"meta": meta, "error": content})


def _meta(scope: Scope, status: int, kind: str) -> dict[str, object]:
    return {"code": status, "url": url(scope), "type": kind, "request_id": scope["request_id"]}


def url(scope: Scope) -> str:
    """The address of the resource, without the query and without secrets (design: envelope)."""
    return requests.origin(scope) + str(scope["masked_path"])
