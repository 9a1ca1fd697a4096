"""What tests of the routes below `/admin` ask for: who acts, what the audit trail says, whether a token is good."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from support.factories import Db

ACTOR_ID = UUID("7d3c1a52-0c11-4f4b-9a53-0a3f0c9d2b77")
REQUEST_ID = "request-of-an-administrator"
HEADERS = {"X-Consumer-Id": str(ACTOR_ID), "X-Request-ID": REQUEST_ID}
MESSAGE = (
    "Validation failed. You can find validators description at our API Manifest: "
    "http://docs.apimanifest.apiary.io/#introduction/interacting-with-api/errors."
)
REQUIRED: dict[str, Any] = {"rule": "required", "description": "can't be blank", "params": []}
TAKEN: dict[str, Any] = {"rule": None, "description": "has already been taken", "params": []}
MISSING: dict[str, Any] = {"rule": None, "description": "does not exist", "params": []}
NOT_FOUND: tuple[int, dict[str, Any]] = (404, {"type": "not_found"})


def cast(expected: str) -> dict[str, Any]:
    return {"rule": "cast", "description": "is invalid", "params": [expected]}


NO_UUID = cast("Elixir.Ecto.UUID")


def invalid(**rules: dict[str, Any] | list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """A 422 in the shape of contract.md 2.4: each field with its rule or rules; `__` stands for a dot."""
    entries = [
        {
            "entry": f"$.{name.replace('__', '.')}",
            "entry_type": "json_data_property",
            "rules": rule if isinstance(rule, list) else [rule],
        }
        for name, rule in rules.items()
    ]
    return 422, {"type": "validation_failed", "message": MESSAGE, "invalid": entries}


def error_of(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    """Status and error; fails when there is more in the envelope."""
    body = response.json()
    assert set(body) == {"meta", "error"}, body
    assert body["meta"]["code"] == response.status_code
    return response.status_code, body["error"]


def data_of(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()["data"]


async def events(db: Db, subject_id: UUID | str) -> list[dict[str, Any]]:
    """What the trail says about one thing: action, client, old and new; fails unless HEADERS made it."""
    rows = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", UUID(str(subject_id)))
    for row in rows:
        assert (row["actor_user_id"], row["request_id"], row["network_address"]) == (ACTOR_ID, REQUEST_ID, "127.0.0.1")
    return [
        {"action": row["action"], "client_id": row["client_id"]}
        | {name: json.loads(row[name]) if row[name] else None for name in ("old", "new")}
        for row in rows
    ]


async def is_good(admin: httpx.AsyncClient, token: str, *, api_key: str | None = None) -> bool:
    """What the gateway is told of a token now."""
    headers = {"api-key": api_key} if api_key else {}
    response = await admin.get(f"/admin/tokens/{token}/verify", headers=headers)
    assert response.status_code in (200, 401, 404), response.text
    return response.status_code == 200


def wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
