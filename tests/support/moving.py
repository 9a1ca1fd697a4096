"""A clinic whose redirect URI moves: what its owner asks of the server, and whether codes and sign-ins are good."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from mithril import refusals
from support import factories, granting
from support.factories import Db, bearer
from support.granting import Party
from support.servers import Server

SCOPE = "connection:read connection:write connection:refresh_secret connection:delete"
SHIFT = """
WITH shifted AS (
    UPDATE connections SET transition_began_at = transition_began_at - make_interval(secs => $2),
           transition_ends_at = transition_ends_at - make_interval(secs => $2)
     WHERE id = $1 AND transition_ends_at IS NOT NULL
)
UPDATE transitions_due SET ends_at = ends_at - make_interval(secs => $2) WHERE connection_id = $1
"""
Details = dict[str, Any]


def uri(name: str) -> str:
    return f"https://{name}.example.com/callback"


OLD, NEW, THIRD = uri("old"), uri("new"), uri("third")


@dataclass(frozen=True)
class Clinic:
    """A client with one connection, its owner's headers, and a user who signs in."""

    server: Server
    http: httpx.AsyncClient
    db: Db
    party: Party
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.party.connection.path

    async def ask(
        self, method: str, suffix: str = "", *, if_match: str | None = None, **request: Any
    ) -> httpx.Response:
        headers = self.headers | request.pop("headers", {}) | ({} if if_match is None else {"If-Match": if_match})
        return await self.http.request(method, self.path + suffix, headers=headers, **request)

    async def begin(
        self, redirect_uri: str = NEW, *, seconds: int | None = None, if_match: str | None = None
    ) -> httpx.Response:
        body = {"redirect_uri": redirect_uri} | ({} if seconds is None else {"lasts_seconds": seconds})
        return await self.ask("PUT", "/transition", json=body, if_match=if_match)

    async def cancel(self, *, if_match: str | None = None) -> httpx.Response:
        return await self.ask("DELETE", "/transition", if_match=if_match)

    async def update(self, redirect_uri: str, *, if_match: str | None = None) -> httpx.Response:
        return await self.ask("PATCH", json={"redirect_uri": redirect_uri}, if_match=if_match)

    async def revert(self, event_id: object, if_match: str | None = "*", **request: Any) -> httpx.Response:
        return await self.ask("POST", f"/history/{event_id}/actions/revert", if_match=if_match, **request)

    async def details(self) -> Details:
        response = await self.ask("GET")
        assert response.status_code == 200, response.text
        shown: Details = response.json()["data"]
        return shown

    async def tag(self) -> str:
        return (await self.ask("GET")).headers["etag"]

    async def history(self) -> list[Details]:
        """The events of the connection, oldest first."""
        response = await self.ask("GET", "/history?page_size=500")
        events: list[Details] = response.json()["data"]
        return events[::-1]

    async def actions(self) -> list[str]:
        return [event["action"].removeprefix("connection.") for event in await self.history()]

    async def code(self, redirect_uri: str) -> str:
        """Sign in at a redirect URI. Raises RedirectUriNotRegistered."""
        party = Party(self.party.client_id, self.party.user_id, self.party.connection, redirect_uri)
        return await granting.code(self.server, party)

    async def is_good(self, redirect_uri: str) -> bool:
        try:
            await self.code(redirect_uri)
        except refusals.RedirectUriNotRegistered:
            return False
        return True

    async def good(self, *uris: str) -> list[str]:
        """Those of these at which a sign-in can begin."""
        return [each for each in uris or (OLD, NEW, THIRD) if await self.is_good(each)]

    async def redeem(self, code: str, redirect_uri: str) -> int:
        token = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, **self.party.body}
        response = await self.http.post("/oauth/tokens", json={"token": token})
        if response.status_code != 201:
            assert response.json()["error"]["message"] == refusals.RedirectUriMismatch.message
        return response.status_code

    async def pass_time(self, seconds: float = 86_400) -> None:
        """Let the times of a transition be so much earlier, as if the clock were later."""
        await self.db.execute(SHIFT, self.party.connection.id, float(seconds))

    async def stored(self) -> Details:
        row = await self.db.fetchval("SELECT to_jsonb(k) FROM connections k WHERE id = $1", self.party.connection.id)
        found: Details = json.loads(row)
        return found


async def clinic(server: Server, http: httpx.AsyncClient, db: Db, *, redirect_uri: str = OLD) -> Clinic:
    party = await granting.party(db, scope=SCOPE, redirect_uri=redirect_uri)
    owner = factories.Client(party.client_id, party.user_id)
    return Clinic(server, http, db, party, bearer(await factories.token(db, client=owner, scope=SCOPE)))
