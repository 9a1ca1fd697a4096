"""Access by tokens and codes: every answer of the server is compared with a model that is one page long.

Hypothesis adds clients, connections, roles and tokens, takes away again what it gave, in every way there is, and asks
what each token is still good for: verify, forward-auth, introspection, refresh, exchange and the API.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from mithril.audit.events import Actor
from mithril.cleanup import service as cleanup
from mithril.connections import redirect_uris
from mithril.database.database import Database
from mithril.settings import Settings
from mithril.snapshots import service as snapshots
from support import administering, factories
from support.access_model import ACTIONS, DELETE, REFRESH, SCOPES, Client, Link, Model, Role, Scope, Token, User
from support.servers import Server, fresh_database, running_server

Thing = TypeVar("Thing")
ALL: Scope = frozenset(SCOPES)
BEFORE = {"MSP": ALL, "PHARMACY": ALL, "MIS": ALL - {DELETE}, "NHS": ALL - {DELETE, REFRESH}}
TYPES = list(BEFORE)
ANY_SCOPE = st.frozensets(st.sampled_from(SCOPES), min_size=1)
MOST_SCOPES = st.frozensets(st.sampled_from(SCOPES), min_size=2)
NUMBER = st.integers(0, 11)  # of a user, client, connection, role or token among those that are there
STEPS = [
    *("add client", "add connection", "add role", "give role", "give role", "take role", "delete role"),
    *("issue by hand", "issue by hand", "issue code", "issue code", "exchange", "exchange", "exchange", "refresh"),
    *("change type", "change role", "change approval", "delete approval", "give client another type"),
    *("block client", "block client", "block client", "block user", "deactivate tokens", "expire", "clean up"),
    *("refresh", "ask", "ask", "ask", "ask", "call API", "call API", "call API", "call API"),
]
HAND_MADE = [("access_token", "password"), ("access_token", "authorization_code"), ("refresh_token", "password")]
HAND_MADE += [("access_token", "refresh_token"), ("2fa_access_token", "password")]


def text_of(scope: Scope) -> str:
    return " ".join(sorted(scope))


def one(things: Sequence[Thing], number: int) -> Thing:
    return things[number % len(things)]


class Access(RuleBasedStateMachine):
    server: ClassVar[Server]
    asked: ClassVar[dict[str, int]] = {}
    mismatch: ClassVar[AssertionError | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.db = self.do(asyncpg.connect(self.server.database_url))
        self.http = httpx.Client(base_url=self.server.url)
        self.internal = httpx.Client(base_url=self.server.internal_url, headers=administering.HEADERS)
        self.number = 0
        self.users: list[User] = []
        self.clients: list[Client] = []
        self.links: list[Link] = []
        self.roles: list[Role] = []
        self.model = Model(dict(BEFORE))
        self.begin()

    def begin(self) -> None:
        """Adds a MIS, a clinic behind its API-key, a pharmacy; users with a role everywhere, in the clinic, or none."""
        for name, scope in BEFORE.items():
            add = "INSERT INTO client_types (name, scope) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET scope = $2"
            self.do(self.db.execute(add, name, text_of(scope)))
        for _ in range(3):
            user_id = self.do(factories.user(self.db))
            self.users.append(
                User(user_id, self.do(self.db.fetchval("SELECT email FROM users WHERE id = $1", user_id)))
            )
        self.add_client("MIS", "DIRECT", ALL)
        self.add_client("MSP", "BROKER", None)
        self.add_client("PHARMACY", "DIRECT", None)
        for client, consumer in ((0, 0), (1, 0), (2, 0)):
            self.add_link(client, consumer)
        self.add_role(ALL)
        self.add_role(ALL)
        self.give_role(0, 0, None, "api")
        self.give_role(1, 1, 1, "api")
        for user, link in ((0, 2), (0, 1), (1, 1)):
            self.authorize(user, link, ALL, is_allowed=True)
            self.exchange(0, 0, is_own=True)

    def teardown(self) -> None:
        """Ask about every token at the end, and keep what did not match (see `compare`)."""
        failed = sys.exc_info()[1]
        try:
            self._end()
        except AssertionError as error:
            failed = error
            raise
        finally:
            if isinstance(failed, AssertionError):
                Access.mismatch = failed

    def _end(self) -> None:
        try:
            for number, token in enumerate(self.model.tokens):
                if token.kind in {"access_token", "refresh_token"}:
                    self.ask_those_who_decide(token, self.right_key(token.link), one(self.links, number))
        finally:
            self.http.close()
            self.internal.close()
            self.do(self.db.close())
            self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def note(self, question: str, status: int) -> None:
        counted = f"{question} {status}"
        self.asked[counted] = self.asked.get(counted, 0) + 1

    # One rule with many ways: of many rules Hypothesis would leave some out of each example

    @rule(
        step=st.sampled_from(STEPS),
        numbers=st.tuples(NUMBER, NUMBER, NUMBER, NUMBER),
        scope=MOST_SCOPES,
        kind=st.sampled_from(TYPES),
        by=st.sampled_from(["api", "import"]),  # the API of administrators, or an import
        is_odd=st.sampled_from([False, False, False, True]),
    )
    def do_step(
        self, step: str, numbers: tuple[int, int, int, int], scope: Scope, kind: str, by: str, *, is_odd: bool
    ) -> None:
        first, second, third, _ = numbers
        ways: dict[str, Callable[[], None]] = {
            "add client": lambda: self.add_client(kind, "BROKER" if is_odd else "DIRECT", scope if first % 2 else None),
            "add connection": lambda: self.add_link(first, second),
            "add role": lambda: self.add_role(scope),
            "issue by hand": lambda: self.add_by_hand(first, second, scope, third),
            "issue code": lambda: self.authorize(first, second, scope, is_allowed=not is_odd),
            "exchange": lambda: self.exchange(first, second, is_own=not is_odd),
            "refresh": lambda: self.refresh(first, second, is_own=not is_odd),
            "change type": lambda: self.change_scope_of_type(kind, scope, by),
            "change role": lambda: self.change_scope_of_role(first, scope, by),
            "change approval": lambda: self.change_approval(first, scope, by),
            "give role": lambda: self.give_role(first, second, None if is_odd else third, by),
            "take role": lambda: self.take_role(first),
            "delete role": lambda: self.delete_role(first),
            "delete approval": lambda: self.delete_approval(first),
            "block client": lambda: self.block_client(first, by, is_blocked=second < 5),
            "block user": lambda: self.block_user(first, by, is_blocked=second < 5),
            "give client another type": lambda: self.change_type(first, kind, by),
            "deactivate tokens": lambda: self.deactivate_tokens(first),
            "expire": lambda: self.expire(first),
            "clean up": self.clean_up,
            "ask": lambda: self.ask(numbers, is_odd=is_odd),
            "call API": lambda: self.call_api(numbers, is_odd=is_odd),
        }
        before = [(token, self.model.is_active(token), token.left) for token in self.model.tokens]
        ways[step]()
        concerned = [each[0] for each in before if each[1:] != (self.model.is_active(each[0]), each[0].left)]
        for token in concerned[-2:]:
            self.ask_those_who_decide(token, self.right_key(token.link), token.link or one(self.links, first))

    # Who is there

    def add_client(self, kind: str, access: str, broker: Scope | None) -> None:
        text = None if broker is None else text_of(broker)
        made = self.do(factories.client(self.db, client_type=kind, access_type=access, broker_scope=text))
        self.clients.append(Client(made, kind, access, broker))

    def add_link(self, client: int, consumer: int) -> None:
        pair = one(self.clients, client), one(self.clients, consumer)
        for older in self.links:
            if (older.client, older.consumer) == pair and not older.is_deleted:
                self.do(self.db.execute("DELETE FROM connections WHERE id = $1", older.made.id))
                older.is_deleted = True
        uri = self.new_uri()
        ids = [each.made.id for each in pair]
        made = self.do(factories.connection(self.db, client_id=ids[0], consumer_id=ids[1], redirect_uri=uri))
        self.links.append(Link(made, *pair, uri))

    def add_role(self, scope: Scope) -> None:
        name = f"role-{uuid4()}"
        add = "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id"
        self.roles.append(Role(self.do(self.db.fetchval(add, name, text_of(scope))), name, scope))

    def new_uri(self) -> str:
        self.number += 1
        return f"https://n{self.number}.example.com"

    # Tokens and codes

    def token(self, number: int, *kinds: str, is_good: bool = False) -> Token | None:
        """Return one of these kinds, or of those of them that are good, the newest first; None where there is none."""
        found = [token for token in reversed(self.model.tokens) if token.kind in kinds or not kinds]
        good = [token for token in found if self.model.is_active(token) and not token.is_used]
        found = (is_good and good) or found
        return one(found, number) if found else None

    def right_key(self, link: Link | None) -> Link | None:
        """Return what is the API-key for tokens of that connection, or for those of no connection."""
        consumer = link.consumer if link else self.clients[0]
        return next((each for each in self.links if each.client is consumer and each.has_api_key), None)

    def add_by_hand(self, user: int, client: int, scope: Scope, number: int) -> None:
        kind, grant_type = one(HAND_MADE, number)
        who, where = one(self.users, user), one(self.clients, client)
        is_bound = any(held[0] is who and held[1] in (where, None) for held in self.model.held)
        scope = (scope & self.model.roles(who, where)) if is_bound else scope
        if not scope:
            return
        value, left = str(uuid4()), scope & self.model.types[where.type]
        details = {"client_id": str(where.made.id), "scope": text_of(scope), "grant_type": grant_type}
        given = {"name": kind, "value": value, "user_id": str(who.id), "details": details}
        body = {"token": given | {"expires_at": int(time.time()) + 3600}}
        response = self.internal.post("/admin/tokens", json=body)
        assert response.status_code == (201 if left else 422), response.text
        if left:
            token = Token(value, who, where, left, kind, is_bound_by_roles=is_bound)
            token.is_bound_by_approval = kind == "refresh_token" or grant_type != "password"
            self.model.tokens.append(token)

    def authorize(self, user: int, link: int, scope: Scope, *, is_allowed: bool) -> None:
        who, through = one(self.users, user), one(self.links, link)
        allowed = self.model.roles(who, through.client) & self.model.types[through.client.type]
        scope = (is_allowed and scope & allowed) or scope
        app = {"client_id": str(through.client.made.id), "redirect_uri": through.redirect_uri, "scope": text_of(scope)}
        response = self.internal.post(
            "/oauth/apps/authorize", json={"app": app}, headers={"X-Consumer-Id": str(who.id)}
        )
        is_authorized = self.model.is_authorized(who, through, scope)
        assert response.is_success == is_authorized, (who, through, scope, response.text)
        self.note("authorize", response.status_code)
        if is_authorized:
            self.model.approve(who, through.client, scope)
            value = response.json()["data"]["value"]
            code = Token(value, who, through.client, scope, "authorization_code", through)
            code.redirect_uri = through.redirect_uri
            self.model.tokens.append(code)

    def exchange(self, code: int, link: int, *, is_own: bool) -> None:
        presented = self.token(code, "authorization_code", is_good=is_own)
        if presented is None:
            return
        through = presented.link if is_own and presented.link else one(self.links, link)
        given = {"grant_type": "authorization_code", "code": presented.value, "redirect_uri": presented.redirect_uri}
        response = self.token_request(through, given)
        is_granted = self.model.is_granted(presented, through)
        assert response.is_success == (is_granted and not presented.is_used), (presented, through, response.text)
        self.note("exchange", response.status_code)
        if is_granted and presented.is_used:
            self.model.end_family(presented.family)
        if response.is_success:
            presented.is_used = True
            data = response.json()["data"]
            values = {"refresh_token": data["details"]["refresh_token"], "access_token": data["value"]}
            for kind, value in values.items():
                self.model.tokens.append(presented.followed_by(value, kind, presented.left, through))

    def refresh(self, token: int, link: int, *, is_own: bool) -> None:
        presented = self.token(token, "refresh_token", is_good=True) if is_own else self.token(token)
        if presented is None:
            return
        through = presented.link if is_own and presented.link else one(self.links, link)
        response = self.token_request(through, {"grant_type": "refresh_token", "refresh_token": presented.value})
        left = self.model.left_for_refresh(presented)
        is_granted = presented.kind == "refresh_token" and self.model.is_granted(presented, through) and bool(left)
        assert response.is_success == is_granted, (presented, through, response.text)
        self.note("refresh", response.status_code)
        if is_granted:
            data = response.json()["data"]
            assert frozenset(data["details"]["scope"].split()) == left
            followed = presented.followed_by(data["value"], "access_token", left, presented.link)
            self.model.tokens.append(followed)

    def token_request(self, link: Link, given: dict[str, Any]) -> httpx.Response:
        caller = {"client_id": str(link.client.made.id), "client_secret": link.made.secret}
        return self.http.post("/oauth/tokens", json={"token": given | caller})

    def expire(self, token: int) -> None:
        ended = self.token(token, "access_token", "refresh_token")
        if ended:
            statement = "UPDATE tokens SET expires_at = now() WHERE digest = sha256($1)"
            self.do(self.db.execute(statement, ended.value.encode()))
            ended.is_expired = True

    # What is taken away, and given back

    def administrate(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        response = self.internal.request(method, f"/admin/{path}", json=body, headers=headers)
        assert response.is_success, response.text

    def imported(self, section: str, **row: Any) -> None:
        snapshot = snapshots.read(json.dumps({section: [row]}).encode())
        actor, policy = Actor(request_id=None), redirect_uris.Policy()
        self.do(snapshots.import_snapshot(self.db, snapshot, actor=actor, policy=policy))

    def block_client(self, client: int, by: str, *, is_blocked: bool) -> None:
        changed = one(self.clients, client)
        self.change_client(changed, by, is_blocked=is_blocked)
        if is_blocked != changed.is_blocked:
            self.model.revoke(lambda token: token.client is changed)
        changed.is_blocked = is_blocked

    def change_type(self, client: int, kind: str, by: str) -> None:
        changed = one(self.clients, client)
        type_id = self.do(self.db.fetchval("SELECT id FROM client_types WHERE name = $1", kind))
        named = {"client_type_id": str(type_id)} if by == "api" else {"client_type": kind}
        with self.model.change():
            self.change_client(changed, by, **named)
            changed.type = kind

    def change_client(self, client: Client, by: str, **changes: Any) -> None:
        if by == "api":
            self.administrate("PUT", f"clients/{client.made.id}", {"client": changes})
        else:
            ids = {"id": str(client.made.id), "user_id": str(client.made.user_id)}
            self.imported("clients", **ids, name="imported", **({"client_type": client.type} | changes))

    def deactivate_tokens(self, client: int) -> None:
        changed = one(self.clients, client)
        self.administrate("PATCH", f"clients/{changed.made.id}/actions/deactivate_tokens")
        self.model.revoke(lambda token: token.client is changed)

    def block_user(self, user: int, by: str, *, is_blocked: bool) -> None:
        changed = one(self.users, user)
        if by == "import":
            self.imported("users", id=str(changed.id), email=changed.email, is_blocked=is_blocked)
        else:
            self.administrate("PUT", f"users/{changed.id}", {"user": {"is_blocked": is_blocked}})
        if is_blocked != changed.is_blocked:
            self.model.revoke(lambda token: token.user is changed)
        changed.is_blocked = is_blocked

    def change_scope_of_type(self, name: str, scope: Scope, by: str) -> None:
        with self.model.change():
            self.change_scope("client_type", name, scope, by)
            self.model.types[name] = scope

    def change_scope_of_role(self, role: int, scope: Scope, by: str) -> None:
        changed = one(self.roles, role)
        with self.model.change():
            self.change_scope("role", changed.name, scope, by)
            changed.scope = scope

    def change_scope(self, noun: str, name: str, scope: Scope, by: str) -> None:
        if by == "import":
            self.imported(f"{noun}s", name=name, scope=text_of(scope))
        else:
            row_id = self.do(self.db.fetchval(f"SELECT id FROM {noun}s WHERE name = $1", name))
            self.administrate("PUT", f"{noun}s/{row_id}", {noun: {"scope": text_of(scope)}})

    def delete_role(self, role: int) -> None:
        if len(self.roles) > 1:
            gone = one(self.roles, role)
            with self.model.change():
                self.administrate("DELETE", f"roles/{gone.id}")
                self.roles.remove(gone)
                self.model.held = [held for held in self.model.held if held[2] is not gone]

    def give_role(self, user: int, role: int, client: int | None, by: str) -> None:
        who, given = one(self.users, user), one(self.roles, role)
        where = None if client is None else one(self.clients, client)
        if (who, where, given) in self.model.held:
            return
        of = {"client_id": str(where.made.id)} if where else {}
        with self.model.change():
            if by == "import":
                section = "user_roles" if where else "global_user_roles"
                self.imported(section, user_id=str(who.id), role=given.name, **of)
            else:
                noun, path = ("user_role", "roles") if where else ("global_user_role", "global_roles")
                self.administrate("POST", f"users/{who.id}/{path}", {noun: of | {"role_id": str(given.id)}})
            self.model.held.append((who, where, given))

    def take_role(self, number: int) -> None:
        if not self.model.held:
            return
        who, where, taken = one(self.model.held, number)
        with self.model.change():
            if where:
                find = "SELECT id FROM user_roles WHERE user_id = $1 AND role_id = $2 AND client_id = $3"
                row_id = self.do(self.db.fetchval(find, who.id, taken.id, where.made.id))
                self.administrate("DELETE", f"users/roles/{row_id}")
            else:
                find = "SELECT id FROM global_user_roles WHERE user_id = $1 AND role_id = $2"
                row_id = self.do(self.db.fetchval(find, who.id, taken.id))
                self.administrate("DELETE", f"users/{who.id}/global_roles/{row_id}")
            self.model.held.remove((who, where, taken))

    def change_approval(self, number: int, scope: Scope, by: str) -> None:
        if not self.model.approved:
            return
        user, client = one(list(self.model.approved), number)
        with self.model.change():
            if by == "import":
                ids = {"user_id": str(user.id), "client_id": str(client.made.id)}
                self.imported("approvals", **ids, scope=text_of(scope))
            else:
                path, of_user = f"apps/{self.approval(user, client)}", {"X-Consumer-Id": str(user.id)}
                self.administrate("PUT", path, {"app": {"scope": text_of(scope)}}, **of_user)
            self.model.approved[user, client] = scope

    def delete_approval(self, number: int) -> None:
        if self.model.approved:
            user, client = one(list(self.model.approved), number)
            self.administrate("DELETE", f"apps/{self.approval(user, client)}", **{"X-Consumer-Id": str(user.id)})
            del self.model.approved[user, client]
            self.model.revoke(lambda each: each.user is user and each.client is client)

    def approval(self, user: User, client: Client) -> UUID:
        statement = "SELECT id FROM apps WHERE user_id = $1 AND client_id = $2"
        found: UUID = self.do(self.db.fetchval(statement, user.id, client.made.id))
        return found

    def clean_up(self) -> None:
        """Stores what is left of the tokens, and changes no answer."""

        async def run() -> None:
            await self.db.execute("UPDATE revocations SET inserted_at = now() - interval '1 hour'")
            async with Database(self.server.database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
                await cleanup.clean_up(database, Settings())

        self.do(run())

    # Questions

    def ask(self, numbers: tuple[int, int, int, int], *, is_odd: bool) -> None:
        token, key, link, _ = numbers
        asked = self.token(token, is_good=is_odd)
        if asked:
            through = asked.link if asked.link and not is_odd else one(self.links, link)
            shown = one([None, *self.links], key) if is_odd else self.right_key(asked.link)
            self.ask_those_who_decide(asked, shown, through)

    def ask_those_who_decide(self, token: Token, key: Link | None, link: Link) -> None:
        headers = {"Authorization": f"Bearer {token.value}"} | ({"API-key": key.made.secret} if key else {})
        status, left = self.model.verified(token, key), token.left
        verified = self.internal.get(f"/admin/tokens/{token.value}/verify", headers=headers)
        assert verified.status_code == status, (token, key, verified.text)
        self.note("verify", status)
        forwarded = self.internal.get("/admin/forward-auth", headers=headers)
        assert forwarded.status_code == (200 if status == 200 else 401), (token, key, forwarded.text)
        if status == 200:
            for said in (verified.json()["data"]["details"]["scope"], forwarded.headers["x-consumer-scope"]):
                assert frozenset(said.split()) == left, (token, said)
        if link.client is token.client and token.link in (link, None):
            self.introspect(token, link)

    def introspect(self, token: Token, link: Link) -> None:
        form = {"token": token.value, "client_id": str(link.client.made.id), "client_secret": link.made.secret}
        response = self.http.post("/oauth2/introspect", data=form)
        status = 400 if link.is_deleted or link.client.is_blocked else 200
        assert response.status_code == status, (token, link, response.text)
        self.note("introspect", status)
        if status == 200:
            is_active = token.kind in ("access_token", "refresh_token") and self.model.is_active(token)
            said = response.json()
            assert said["active"] == is_active, (token, link, said)
            assert not is_active or frozenset(said["scope"].split()) == token.left, (token, link, said)

    def call_api(self, numbers: tuple[int, int, int, int], *, is_odd: bool) -> None:
        token, key, link, number = numbers
        action, asked = (
            one([*ACTIONS, *list(ACTIONS)[:3]], number),
            self.token(token, "access_token", is_good=not is_odd),
        )
        through = asked.link if asked and asked.link and not is_odd else one(self.links, link)
        shown = one([None, *self.links], key) if is_odd else self.right_key(asked.link if asked else None)
        self.request(action, asked, shown, one(self.clients, key) if is_odd else through.client, through)

    def request(self, action: Any, token: Token | None, key: Link | None, named: Client, link: Link) -> None:
        headers = {"Authorization": f"Bearer {token.value}"} if token else {}
        if key is not None:
            headers["API-key"] = key.made.secret
        uri = self.new_uri()
        body = {"redirect_uri": uri} if action == ("PATCH", "") else None
        path = f"/api/clients/{named.made.id}/connections/{link.made.id}{action[1]}"
        response = self.http.request(action[0], path, json=body, headers=headers)
        want = self.model.asked(action, token, key, named, link)
        assert response.status_code == want, (action, token, key, named, link, response.text)
        self.note("api", want)
        if want != 200:
            return
        if action[0] == "DELETE":
            link.is_deleted = True
        elif action[1]:
            object.__setattr__(link.made, "secret", response.json()["data"]["secret"])
        elif body:
            link.redirect_uri = uri


def compare(server: Server, *, examples: int, steps: int) -> dict[str, int]:
    """Run the machine, and return how often each status was the answer to each question."""
    Access.server, Access.asked, Access.mismatch = server, {}, None
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # looking for a shorter example takes longer than a test may
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Access, settings=chosen)
    except FlakyStrategyDefinition:
        # What can be drawn depends on the answers, and these on the clock. What was asked until then counts.
        if Access.mismatch is not None:
            raise Access.mismatch from None
    return dict(sorted(Access.asked.items()))


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server for callers who are refused all the time."""
    often = {"max_failures": 1_000_000, "max_failures_per_address": 1_000_000}
    with fresh_database(postgres) as url, running_server(database_url=url, **often) as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0.0)


OFTEN: tuple[str, ...] = (
    "verify 200",
    "verify 401",
    "authorize 201",
    "exchange 201",
    "exchange 401",
    "refresh 201",
    "introspect 200",
)
OFTEN += ("api 200", "api 401", "api 403")
ALSO: tuple[str, ...] = (
    "verify 404",
    "verify 422",
    "authorize 401",
    "authorize 422",
    "refresh 401",
    "introspect 400",
)


@pytest.mark.slow
def test_every_answer_matches_the_model(server: Server) -> None:
    asked = compare(server, examples=10, steps=40)
    assert set(asked) >= set(OFTEN), asked


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_answer_matches_the_model_in_more_examples(server: Server) -> None:
    asked = compare(server, examples=60, steps=60)
    assert set(asked) >= set(OFTEN + ALSO), asked


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_every_answer_matches_the_model_in_long_runs(server: Server) -> None:
    asked = compare(server, examples=300, steps=60)
    print(f"access model: {sum(asked.values())} answers, {asked}")  # noqa: T201
    assert min(asked.get(way, 0) for way in (*OFTEN, *ALSO, "api 404")) > 5
