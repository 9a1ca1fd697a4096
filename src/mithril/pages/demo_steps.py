"""The requests that follow a code, as the callback page of the demo shows and sends them.

    exchange ──► an access token and a refresh token ──► refresh, verify, change

Each is made once, for both: the command to paste and the request that the page sends are the same.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Message

from mithril.settings import Settings
from mithril.snapshots import demo
from mithril.tokens.kinds import GrantType
from mithril.web import requests

# What a code or a token of ours looks like. A command to paste has nothing else of a caller.
VALUE: Final = re.compile(r"[A-Za-z0-9_-]{20,128}")


class Known(NamedTuple):
    """The code and the tokens that the page knows; None where it does not."""

    code: str | None
    access_token: str | None = None
    refresh_token: str | None = None


class Step(NamedTuple):
    """One request; `needs` is the value without which it cannot be sent."""

    name: str
    needs: str | None
    method: str
    url: str
    headers: dict[str, str]
    body: object = None

    @property
    def command(self) -> str:
        """Return the request as a command of curl."""
        parts = ["curl" if self.method == "GET" else f"curl -X {self.method}"]
        parts[0] += f" {shlex.quote(self.url)}"
        parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in self.headers.items()]
        if self.body is not None:
            parts.append(f"-d {shlex.quote(json.dumps(self.body))}")
        return " \\\n  ".join(parts)


class Answer(NamedTuple):
    """What came back."""

    status: int
    document: Any


def steps(settings: Settings, known: Known) -> Iterator[Step]:
    """Yield the requests in their order, with what is not known in capital letters."""
    own, origin = demo.program(), requests.own_origin(settings)
    internal = f"http://{requests.reached_at(settings.internal_host, settings.internal_port)}"
    callback, is_json = origin + demo.CALLBACK_PATH, {"Content-Type": "application/json"}
    access, refresh = known.access_token or "ACCESS_TOKEN", known.refresh_token or "REFRESH_TOKEN"
    client = {"client_id": own.client_id, "client_secret": own.secret}
    code = {"grant_type": GrantType.CODE, "code": known.code or "CODE", "redirect_uri": callback}
    renewal = {"grant_type": GrantType.REFRESH, "refresh_token": refresh}
    tokens, connection = f"{origin}/oauth/tokens", f"/api/clients/{own.client_id}/connections/{own.connection_id}"
    rights = {"Authorization": f"Bearer {access}", "API-key": own.api_key}
    key = {"X-Mithril-Key": "INTERNAL_KEY"} if settings.internal_key else {}
    yield Step("exchange", known.code, "POST", tokens, is_json, {"token": code | client})
    yield Step("refresh", known.refresh_token, "POST", tokens, is_json, {"token": renewal | client})
    verify = f"{internal}/admin/tokens/{access}/verify"
    yield Step("verify", known.access_token, "GET", verify, {"API-key": own.api_key} | key)
    yield Step("change", known.access_token, "PATCH", origin + connection, is_json | rights, {"redirect_uri": callback})


async def send(application: ASGIApp, request: Request, step: Step) -> Answer:
    """Send the request to this server itself, for the caller of `request`, and return its answer."""
    settings, target = requests.resources(request).settings, urlsplit(step.url)
    is_internal = step.name == "verify"
    headers = step.headers | ({"X-Mithril-Key": settings.internal_key} if is_internal else {})
    body = b"" if step.body is None else msgspec.json.encode(step.body)
    port = settings.internal_port if is_internal else settings.port
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": step.method,
        "scheme": target.scheme,
        "path": target.path,
        "raw_path": target.path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", target.netloc.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": request.scope["client"],
        "server": (request.scope["server"][0], port),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def keep(message: Message) -> None:
        sent.append(message)

    await application(scope, receive, keep)
    content = b"".join(message.get("body", b"") for message in sent)
    return Answer(sent[0]["status"], msgspec.json.decode(content) if content else None)


def learned(known: Known, answer: Answer) -> Known:
    """Return what is known after an answer that issues tokens."""
    data = answer.document.get("data", {}) if isinstance(answer.document, dict) else {}
    details = data.get("details") or {}
    if "value" not in data or "refresh_token" not in details:
        return known
    return known._replace(access_token=data["value"], refresh_token=details["refresh_token"])
