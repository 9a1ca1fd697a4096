"""Shared by the tests of the console: an owner of an institution with a connection, and the forms of a browser."""

import html
import json
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from support import factories
from support.cases import PASSWORD, PASSWORD_HASH, form_token
from support.factories import Db

SCOPE = "client:read connection:read connection:write connection:refresh_secret connection:delete"
OLD, NEW = "https://mis.example.com/old", "https://mis.example.com/new"


@dataclass(frozen=True)
class Owner:
    """A user with a role in a client, which has one connection with a MIS."""

    user_id: UUID
    email: str
    client: factories.Client
    mis: factories.Client
    connection: factories.Connection

    @property
    def path(self) -> str:
        """The page of the client."""
        return f"/console/clients/{self.client.id}"

    @property
    def page(self) -> str:
        """The page of the connection."""
        return f"{self.path}/connections/{self.connection.id}"


async def make_owner(
    db: Db,
    *,
    scope: str = SCOPE,
    client_type: str | None = None,
    type_scope: str = SCOPE,
    access_type: str = "BROKER",
) -> Owner:
    """An owner; `client_type`: of their client, a new one by default."""
    client_type = client_type or f"Type {uuid4()}"
    client = await factories.client(db, client_type=client_type, access_type=access_type)
    await db.execute("UPDATE client_types SET scope = $2 WHERE name = $1", client_type, type_scope)
    mis = await factories.client(db, client_type="MIS")
    connection = await factories.connection(db, client_id=client.id, consumer_id=mis.id, redirect_uri=OLD)
    email = await db.fetchval(
        "UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING email", client.user_id, PASSWORD_HASH
    )
    await give_role(db, client.user_id, client.id, scope=scope)
    return Owner(client.user_id, email, client, mis, connection)


async def give_role(db: Db, user_id: UUID, client_id: UUID, *, scope: str) -> None:
    """Give the user a new role of this scope in the client."""
    role_id = await db.fetchval(
        "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", f"Role {uuid4()}", scope
    )
    await db.execute(
        "INSERT INTO user_roles (user_id, role_id, client_id) VALUES ($1, $2, $3)", user_id, role_id, client_id
    )


async def sign_in(
    http: httpx.AsyncClient, email: str, *, next_: str | None = None, password: str = PASSWORD
) -> httpx.Response:
    """Send the sign-in form; return the answer to it."""
    http.cookies.clear()
    url = "/console/sign-in" if next_ is None else f"/console/sign-in?next={next_}"
    page = await http.get(url)
    return await http.post(url, data={"form_token": form_token(page), "email": email, "password": password})


async def send(http: httpx.AsyncClient, path: str, *, of: str | None = None, **fields: Any) -> httpx.Response:
    """Send the form of a page as a browser does, with its hidden fields, the password, and these; None leaves one out.

    `of`: the page that has the form, if it is another one.
    """
    page = await http.get(of or path)
    return await http.post(path, data=filled(page, **fields))


def filled(page: httpx.Response, **fields: Any) -> dict[str, Any]:
    """The hidden fields of the last form of the page, with the password and these fields."""
    assert "form_token" in page.text, page.text
    form = page.text.rpartition("<main")[2].rpartition("<form")[2]
    hidden = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}
    given = {**hidden, "password": PASSWORD, **fields}
    return {name: value for name, value in given.items() if value is not None}


async def events(db: Db, subject_id: UUID) -> list[dict[str, Any]]:
    """The audit rows of a connection, the oldest first."""
    rows = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", subject_id)
    decoded = ({name: json.loads(row[name] or "null") for name in ("old", "new")} for row in rows)
    return [dict(row) | values for row, values in zip(rows, decoded, strict=True)]
