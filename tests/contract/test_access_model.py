"""Access to connections: every answer of the server is compared with a model that is one page long.

Hypothesis generates clients, connections and tokens, blocks and deletes some of them, and sends requests.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from support import factories
from support.servers import Server

READ, WRITE, REFRESH, DELETE = "connection:read", "connection:write", "connection:refresh_secret", "connection:delete"
SCOPES = (READ, WRITE, REFRESH, DELETE)
# The method, the end of the path, and the required scope.
ACTIONS = {
    ("GET", ""): READ,
    ("PATCH", ""): WRITE,
    ("PATCH", "/actions/refresh_secret"): REFRESH,
    ("DELETE", ""): DELETE,
}


# The model


@dataclass
class Client:
    made: factories.Client
    type: str
    access_type: str
    broker_scope: frozenset[str] | None
    is_blocked: bool = False


@dataclass
class Link:
    made: factories.Connection
    client: Client
    consumer: Client
    is_deleted: bool = False

    @property
    def has_api_key(self) -> bool:
        return not self.is_deleted and self.client is self.consumer


@dataclass
class Token:
    value: str
    client: Client
    scopes: frozenset[str]
    kind: str = "access_token"
    link: Link | None = None
    is_expired: bool = False


def expected(  # noqa: PLR0911 -- the rules, one after the other
    action: tuple[str, str], token: Token | None, key: Link | None, named: Client, link: Link
) -> int:
    """Return the status that the model expects."""
    if token is None or token.kind != "access_token" or token.is_expired or token.client.is_blocked:
        return 401
    if token.link is not None and token.link.is_deleted:
        return 401  # a token is deleted with the connection through which it was issued
    broker: Client | None = None
    if token.client.access_type == "BROKER":
        if key is None or not key.has_api_key:
            return 401
        broker = key.client
        if broker.is_blocked or not broker.broker_scope:
            return 401
        if token.link is not None and token.link.consumer is not broker:
            return 401
    wanted = ACTIONS[action]
    if wanted not in token.scopes or (broker is not None and wanted not in (broker.broker_scope or ())):
        return 403
    if token.client.type != "NHS" and named is not token.client:
        return 403
    if link.client is not named or link.is_deleted:
        return 404
    return expected_of_key(key, link) if wanted == REFRESH and link.consumer is not link.client else 200


def expected_of_key(key: Link | None, link: Link) -> int:
    """Return the expected status of an API-key: only the consumer may refresh the secret."""
    if key is None or not key.has_api_key or key.client.is_blocked:
        return 401
    return 200 if key.client is link.consumer else 403


# The machine

ANY_ACTION = st.sampled_from(list(ACTIONS))
MOST_SCOPES = st.frozensets(st.sampled_from(SCOPES), min_size=2)


class Access(RuleBasedStateMachine):
    server: ClassVar[Server]
    asked: ClassVar[dict[int, int]] = {}

    clients, links, tokens = Bundle("clients"), Bundle("links"), Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.db = self.loop.run(asyncpg.connect(self.server.database_url))
        self.http = httpx.Client(base_url=self.server.url)
        self.number = 0
        self.known: list[Link] = []

    def teardown(self) -> None:
        self.http.close()
        self.loop.run(self.db.close())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    @rule(
        target=clients,
        kind=st.sampled_from(["MSP", "PHARMACY", "MIS", "NHS"]),
        access=st.sampled_from(["DIRECT", "DIRECT", "BROKER"]),
        broker=st.none() | st.frozensets(st.sampled_from(SCOPES)),
    )
    def add_client(self, kind: str, access: str, broker: frozenset[str] | None) -> Client:
        text = None if broker is None else " ".join(sorted(broker))
        made = self.do(factories.client(self.db, client_type=kind, access_type=access, broker_scope=text))
        return Client(made, kind, access, broker)

    @rule(target=links, client=clients, consumer=clients)
    def add_link(self, client: Client, consumer: Client) -> Any:
        statement = "DELETE FROM connections WHERE client_id = $1 AND consumer_id = $2"
        self.do(self.db.execute(statement, client.made.id, consumer.made.id))
        for older in self.known:
            older.is_deleted |= older.client is client and older.consumer is consumer
        made = self.do(factories.connection(self.db, client_id=client.made.id, consumer_id=consumer.made.id))
        link = Link(made, client, consumer)
        self.known.append(link)
        return link

    @rule(
        target=tokens,
        client=clients,
        scopes=st.frozensets(st.sampled_from(SCOPES), min_size=1),
        kind=st.sampled_from(["access_token"] * 4 + ["refresh_token", "2fa_access_token"]),
        is_expired=st.sampled_from([False] * 4 + [True]),
    )
    def add_token(self, client: Client, scopes: frozenset[str], kind: str, *, is_expired: bool) -> Token:
        lives = -1 if is_expired else 3600
        text = " ".join(sorted(scopes))
        value = self.do(factories.token(self.db, client=client.made, scope=text, name=kind, expires_in=lives))
        return Token(value, client, scopes, kind, is_expired=is_expired)

    @rule(target=tokens, link=links, scopes=st.frozensets(st.sampled_from(SCOPES), min_size=1))
    def issue_token(self, link: Link, scopes: frozenset[str]) -> Token:
        return self.issue(link, scopes)

    def issue(self, link: Link, scopes: frozenset[str]) -> Token:
        through, text = None if link.is_deleted else link.made.id, " ".join(sorted(scopes))
        value = self.do(factories.token(self.db, client=link.client.made, connection_id=through, scope=text))
        return Token(value, link.client, scopes, link=None if link.is_deleted else link)

    @rule(client=clients, is_blocked=st.sampled_from([False, False, False, True]))
    def block(self, client: Client, *, is_blocked: bool) -> None:
        self.do(self.db.execute("UPDATE clients SET is_blocked = $2 WHERE id = $1", client.made.id, is_blocked))
        client.is_blocked = is_blocked

    @rule(token=tokens, really=st.sampled_from([False, False, False, True]))
    def expire(self, token: Token, *, really: bool) -> None:
        if not really:
            return
        statement = "UPDATE tokens SET expires_at = now() WHERE digest = sha256($1)"
        self.do(self.db.execute(statement, token.value.encode()))
        token.is_expired = True

    @rule(action=ANY_ACTION, token=st.none() | tokens, key=st.none() | links, named=clients, link=links)
    def ask_anything(self, action: Any, token: Token | None, key: Link | None, named: Client, link: Link) -> None:
        self.ask(action, token, key, named, link)

    @rule(
        action=ANY_ACTION, scopes=st.frozensets(st.sampled_from(SCOPES), min_size=2), key=st.none() | links, link=links
    )
    def ask_with_a_fresh_token(self, action: Any, scopes: frozenset[str], key: Link | None, link: Link) -> None:
        self.ask(action, self.issue(link, scopes), key, link.client, link)

    @rule(action=ANY_ACTION, token=tokens, key=st.none() | links, link=links)
    def ask_for_own(self, action: Any, token: Token, key: Link | None, link: Link) -> None:
        self.ask(action, token, key, link.client, link)

    def ask(self, action: Any, token: Token | None, key: Link | None, named: Client, link: Link) -> None:
        headers = {"Authorization": f"Bearer {token.value}"} if token else {}
        if key is not None:
            headers["API-key"] = key.made.secret
        self.number += 1
        body = {"redirect_uri": f"https://n{self.number}.example.com"} if action == ("PATCH", "") else None
        path = f"/api/clients/{named.made.id}/connections/{link.made.id}{action[1]}"
        response = self.http.request(action[0], path, json=body, headers=headers)
        want = expected(action, token, key, named, link)
        assert response.status_code == want, (action, token, key, named, link, response.text)
        self.asked[want] = self.asked.get(want, 0) + 1
        if want == 200:
            self.follow(action, link, response)

    def follow(self, action: Any, link: Link, response: httpx.Response) -> None:
        if action[0] == "DELETE":
            link.is_deleted = True
        if action[1]:
            secret = response.json()["data"]["secret"]
            object.__setattr__(link.made, "secret", secret)


def compare(server: Server, *, examples: int, steps: int) -> dict[int, int]:
    """Run the machine, and return how often each status was the answer."""
    Access.server, Access.asked = server, {}
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Access, settings=chosen)
    return Access.asked


def test_every_answer_matches_the_model(server: Server) -> None:
    asked = compare(server, examples=12, steps=40)
    assert {200, 401, 403, 404} <= set(asked)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_every_answer_matches_the_model_in_long_runs(server: Server) -> None:
    asked = compare(server, examples=300, steps=60)
    print(f"access model: {sum(asked.values())} answers, {dict(sorted(asked.items()))}")  # noqa: T201
    assert min(asked[status] for status in (200, 401, 403, 404)) > 50
