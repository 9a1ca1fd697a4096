"""Shared by the tests of the routes below `/admin`: actor, audit trail, and whether a token is active."""

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
NOT_FOUND: tuple[int, dict[str, Any]] = (404, {"type": "not_found", "message": "Not Found"})


def cast(expected: str) -> dict[str, Any]:
    return {"rule": "cast", "description": "is invalid", "params": [expected]}


NO_UUID = cast("Elixir.Ecto.UUID")


def invalid(**rules: dict[str, Any] | list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Return a 422 of a changeset: the rule or rules of each field; `__` stands for a dot (rules CNV-21 to CNV-23)."""
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
    """Return status and error. Fails when the envelope has anything else."""
    body = response.json()
    assert set(body) == {"meta", "error"}, body
    assert body["meta"]["code"] == response.status_code
    return response.status_code, body["error"]


def data_of(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()["data"]


async def events(db: Db, subject_id: UUID | str) -> list[dict[str, Any]]:
    """Return the events of one resource: action, client, old and new. Fails unless HEADERS name the actor."""
    rows = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", UUID(str(subject_id)))
    for row in rows:
        assert (row["actor_user_id"], row["request_id"], row["network_address"]) == (ACTOR_ID, REQUEST_ID, "127.0.0.1")
    return [
        {"action": row["action"], "client_id": row["client_id"]}
        | {name: json.loads(row[name]) if row[name] else None for name in ("old", "new")}
        for row in rows
    ]


async def is_good(admin: httpx.AsyncClient, token: str, *, api_key: str | None = None) -> bool:
    """Return whether the gateway accepts a token now."""
    headers = {"api-key": api_key} if api_key else {}
    response = await admin.get(f"/admin/tokens/{token}/verify", headers=headers)
    assert response.status_code in (200, 401, 404), response.text
    return response.status_code == 200


def wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
