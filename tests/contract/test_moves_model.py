"""Moves of redirect URIs: every answer of two workers is compared with a model that is one page long.

Hypothesis begins, ends, replaces and takes back transitions in every way there is, moves the clock forth and back, and
after each step asks which redirect URIs are good: never a third one, and no code for one that is not.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from mithril import refusals
from mithril.audit.events import Actor
from mithril.cleanup import service as cleanup
from mithril.connections import redirect_uris
from mithril.database.database import Database
from mithril.oauth import authorization
from mithril.settings import Settings
from mithril.snapshots import service as snapshots
from mithril.users import store as users
from support import factories, granting, moving
from support.factories import bearer
from support.move_model import Model, Move, Place
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio
Result = TypeVar("Result")
URIS = [moving.uri(name) for name in ("a", "b", "c", "d")]
URI = st.sampled_from(URIS)
SECONDS = st.sampled_from([60, 3_600, 86_400])
STEPS = [
    *("update", "begin", "begin", "begin", "cancel", "revert", "refresh", "delete", "import", "import", "upsert"),
    *("clock", "clock", "clock", "clean up", "sign in", "sign in", "sign in", "redeem", "redeem", "redeem"),
]


class Moves(RuleBasedStateMachine):
    servers: ClassVar[list[Server]]
    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.http = [httpx.Client(base_url=server.url) for server in self.servers]
        self.internal = httpx.Client(base_url=self.servers[0].internal_url)
        url = self.servers[0].database_url
        self.db = self.do(asyncpg.connect(url))
        self.databases = [Database(url, size=2, wait_seconds=60, statement_seconds=60) for _ in self.servers]
        for database in self.databases:
            self.do(database.__aenter__())
        self.turn = random.Random(0)
        self.party = self.do(granting.party(self.db, scope=moving.SCOPE, redirect_uri=URIS[0]))
        owner = factories.Client(self.party.client_id, self.party.user_id)
        self.headers = bearer(self.do(factories.token(self.db, client=owner, scope=moving.SCOPE)))
        self.connection, self.secret = self.party.connection.id, self.party.connection.secret
        self.model = Model(Place(URIS[0]))
        self.lost: list[str] = []  # codes of connections that are deleted

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run(work)

    def teardown(self) -> None:
        self.clean_up()
        self.replay()
        for database in self.databases:
            self.do(database.__aexit__())
        self.do(self.db.close())
        for client in (*self.http, self.internal):
            client.close()
        self.loop.close()

    def ask(self, method: str, suffix: str = "", **request: Any) -> httpx.Response:
        """Ask one of the two workers."""
        path = f"/api/clients/{self.party.client_id}/connections/{self.connection}{suffix}"
        headers = self.headers | request.pop("headers", {})
        return self.turn.choice(self.http).request(method, path, headers=headers, **request)

    @rule(step=st.sampled_from(STEPS), uri=URI, other=URI, seconds=SECONDS, number=st.integers(0, 20))
    def step(self, step: str, uri: str, other: str, seconds: int, number: int) -> None:
        steps: dict[str, Callable[[], object]] = {
            "update": lambda: self.update(uri),
            "begin": lambda: self.begin(uri, seconds),
            "cancel": self.cancel,
            "revert": lambda: self.revert(number),
            "refresh": self.refresh,
            "delete": lambda: self.delete(uri) if number < 5 else None,
            "import": lambda: self.bring(uri, other if number % 2 else None, seconds, says_none=number % 3 == 0),
            "upsert": lambda: self.upsert(uri),
            "clock": lambda: self.shift(seconds if number % 3 else -seconds),
            "clean up": self.clean_up,
            "sign in": lambda: self.sign_in(self.model.good[-1 if number % 2 else 0].uri if number % 4 else uri),
            "redeem": lambda: self.redeem(number, uri if number % 4 == 0 else None),
        }
        steps[step]()
        Moves.done[step] += 1
        self.compare()

    # Changes

    def update(self, uri: str) -> None:
        assert self.ask("PATCH", json={"redirect_uri": uri}).status_code == 200
        self.model.set(uri)

    def begin(self, uri: str, seconds: int) -> None:
        body = {"redirect_uri": uri, "lasts_seconds": seconds}
        status = self.ask("PUT", "/transition", json=body).status_code
        assert status == (200 if self.model.begin(uri, seconds) else 422)

    def cancel(self) -> None:
        assert self.ask("DELETE", "/transition").status_code == (200 if self.model.cancel() else 404)

    def revert(self, number: int) -> None:
        events = self.ask("GET", "/history?page_size=500").json()["data"]
        if not events:
            return
        event = events[number % len(events)]
        before = (event["old"] or {}).get("redirect_uri")
        path = f"/history/{event['id']}/actions/revert"
        status = self.ask("POST", path, headers={"If-Match": "*"}).status_code
        if before is None or before == event["new"].get("redirect_uri"):
            assert status == 409
        else:
            assert status == 200
            self.model.set(before)

    def refresh(self) -> None:
        response = self.ask("PATCH", "/actions/refresh_secret")
        assert response.status_code == 200
        self.secret = response.json()["data"]["secret"]
        self.model.store()

    def delete(self, uri: str) -> None:
        """Delete the connection, and add another one of the same two."""
        self.replay_after_cleanup()
        assert self.ask("DELETE").status_code == 200
        self.lost += self.model.codes
        body = {"consumer_id": str(self.party.client_id), "redirect_uri": uri}
        made = self.internal.put(f"/admin/clients/{self.party.client_id}/connections", json=body)
        assert made.status_code == 201
        self.connection, self.secret = UUID(made.json()["data"]["id"]), made.json()["data"]["secret"]
        self.model = Model(Place(uri), now=self.model.now)

    def upsert(self, uri: str) -> None:
        body = {"consumer_id": str(self.party.client_id), "redirect_uri": uri}
        assert self.internal.put(f"/admin/clients/{self.party.client_id}/connections", json=body).status_code == 200
        self.model.set(uri)

    def bring(self, uri: str, new: str | None, seconds: int, *, says_none: bool) -> None:
        """Import a row. It may name a transition, also one that has ended; or none, or say nothing of any."""
        row: dict[str, Any] = {"redirect_uri": uri} | {
            f"{name}_id": str(self.party.client_id) for name in ("client", "consumer")
        }
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        if new is not None and new != uri:
            moment -= timedelta(days=2) if says_none else timedelta()
            row["transition"] = {"redirect_uri": new, "ends_at": moment.isoformat()}
        elif says_none:
            row["transition"] = None
        given = snapshots.read(json.dumps({"connections": [row]}).encode())
        actor, policy = Actor(request_id="import"), redirect_uris.Policy()
        self.do(snapshots.import_snapshot(self.db, given, actor=actor, policy=policy))
        self.model.store()
        if row.get("transition") and not says_none:
            if uri != self.model.present.uri:
                self.model.set(uri)
            assert new is not None
            kept = self.model.move.place if self.model.move and self.model.move.place.uri == new else Place(new)
            self.model.move = Move(kept, self.model.now + seconds)
        elif row.get("transition"):
            self.model.set(row["transition"]["redirect_uri"])
        elif uri != self.model.present.uri or "transition" in row:
            self.model.set(uri)

    def clean_up(self) -> None:
        self.do(cleanup.clean_up(self.turn.choice(self.databases), Settings()))
        self.model.store()

    def shift(self, seconds: int) -> None:
        """The clock is moved: here the times of the transition are, the other way."""
        self.do(self.db.execute(moving.SHIFT, self.connection, float(seconds)))
        self.model.now += seconds

    # Signing in

    def sign_in(self, uri: str) -> bool:
        """Ask for a code; it is remembered with its place. Returns whether there was one."""
        try:
            code = self.do(self.code(uri))
        except refusals.RedirectUriNotRegistered:
            return False
        place = self.model.place_of(uri)
        assert place is not None, "a sign-in at a redirect URI that is not good"
        self.model.codes[code] = place
        return True

    async def code(self, uri: str) -> str:
        database, chosen = self.turn.choice(self.databases), self.servers[0].settings
        known = await authorization.identify_client(database, self.party.client_id)
        redirect = await authorization.match_redirect_uri(database, known, uri)
        user = authorization.identify_user(await users.find_user(database, self.party.user_id))
        granted = await authorization.bound_scope(database, chosen, redirect=redirect, user=user, scope=granting.SCOPE)
        return (await authorization.approve(database, chosen, granted, actor=Actor(request_id=None))).value

    def redeem(self, number: int, uri: str | None) -> None:
        """Redeem a code: with its own redirect URI, or another one; or one of a connection that is deleted."""
        codes = [*self.model.codes, *self.lost[-2:]]
        if not codes:
            return
        code = codes[number % len(codes)]
        place = self.model.codes.get(code)
        uri = uri or (place.uri if place else URIS[0])
        body = {"client_id": str(self.party.client_id), "client_secret": self.secret, "code": code, "redirect_uri": uri}
        token = {"grant_type": "authorization_code"} | body
        response = self.turn.choice(self.http).post("/oauth/tokens", json={"token": token})
        is_good = place is not None and self.model.redeem(code, uri)
        assert response.status_code == (201 if is_good else 401), response.text
        Moves.done[f"redeemed {is_good}"] += 1

    # What must hold after each step

    def compare(self) -> None:
        good = [place.uri for place in self.model.good]
        stored = self.do(self.good())
        assert sorted(stored) == sorted(good), "never a third one"
        response = self.ask("GET")
        shown = response.json()["data"]
        transition = shown["transition"] and shown["transition"]["redirect_uri"]
        assert [shown["redirect_uri"], *([transition] if transition else [])] == good
        Moves.done[f"good {len(good)}"] += 1

    async def good(self) -> list[str]:
        """The redirect URIs at which a sign-in can begin, of all that were ever used."""
        database = self.turn.choice(self.databases)
        known = await authorization.identify_client(database, self.party.client_id)
        found = []
        for uri in URIS:
            with suppress(refusals.RedirectUriNotRegistered):
                found.append((await authorization.match_redirect_uri(database, known, uri)).connection.redirect_uri)
        return found

    def replay_after_cleanup(self) -> None:
        self.clean_up()
        self.replay()

    def replay(self) -> None:
        """The history leads from the first redirect URI to what is shown; each event begins where the last ended."""
        events = self.ask("GET", "/history?page_size=500").json()["data"][::-1]
        state: dict[str, Any] = {}
        for event in events:
            if event["action"] == "connection.create" or "redirect_uri" in (event["old"] or {}):
                old, new = event["old"] or {}, event["new"]
                assert not state or old["redirect_uri"] == state["redirect_uri"], event
                ends = [(each.get("transition") or {}).get("redirect_uri") for each in (old, new)]
                assert not state or ends[0] == state["transition"], event
                state = {"redirect_uri": new["redirect_uri"], "transition": ends[1]}
        shown = self.ask("GET").json()["data"]
        transition = shown["transition"] and shown["transition"]["redirect_uri"]
        first = {"redirect_uri": URIS[0], "transition": None}
        assert (state or first) == {"redirect_uri": shown["redirect_uri"], "transition": transition}


@pytest.fixture(scope="module")
def workers(postgres: str) -> Iterator[list[Server]]:
    often = {"max_failures": 1_000_000, "max_failures_per_address": 1_000_000, "sweep_interval": 0}
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, **often) as one,
        running_server(database_url=url, **often) as other,
    ):
        yield [one, other]


def compare(workers: list[Server], monkeypatch: pytest.MonkeyPatch, *, examples: int, steps: int) -> Counter[str]:
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0.0)
    Moves.servers, Moves.done = workers, Counter()
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Moves, settings=chosen)
    return Moves.done


OFTEN = {"good 1", "good 2", "redeemed True", "redeemed False"}


def test_the_redirect_uris_that_are_good_match_the_model(
    workers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the next test, for the quick suite."""
    compare(workers, monkeypatch, examples=1, steps=25)


@pytest.mark.slow
def test_the_redirect_uris_that_are_good_match_the_model_in_more_examples(
    workers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compare(workers, monkeypatch, examples=8, steps=50)
    assert set(done) >= OFTEN, done


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_the_redirect_uris_that_are_good_match_the_model_in_long_runs(
    workers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compare(workers, monkeypatch, examples=30, steps=50)
    print(f"moves: {done}")  # noqa: T201
    assert set(done) >= OFTEN | set(STEPS), done
    assert min(done[name] for name in OFTEN) > 20, done
