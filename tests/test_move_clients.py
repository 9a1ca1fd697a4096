"""Two programs of openid-client, one at the old redirect URI and one at the new one, while the clinic moves.

Both sign users in without a pause, through two workers. No sign-in fails while its redirect URI is good, and none
succeeds while it is not. Belongs to `make test-examples`, which installs what the programs need.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from mithril.settings import Settings
from support import granting, moving, repository
from support.browsing import sign_in
from support.moving import NEW, OLD, Clinic
from support.processes import serving
from support.servers import Server, fresh_database

pytestmark = [pytest.mark.examples, pytest.mark.anyio, pytest.mark.timeout(600)]

# A line of its input is "begin", or the URL to which the browser was sent back; a line of its output answers.
PROGRAM = """
import readline from 'node:readline'
import * as oauth from 'openid-client'

const [server, clientId, secret, redirectUri] = process.argv.slice(1)
const how = { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] }
const config = await oauth.discovery(new URL(server), clientId, secret, undefined, how)
let pkceCodeVerifier, expectedState
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === 'begin') {
    pkceCodeVerifier = oauth.randomPKCECodeVerifier()
    expectedState = oauth.randomState()
    console.log(oauth.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri, scope: 'connection:read', state: expectedState, response_type: 'code',
      code_challenge: await oauth.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256',
    }).href)
  } else {
    try {
      const tokens = await oauth.authorizationCodeGrant(config, new URL(line), { pkceCodeVerifier, expectedState })
      console.log(JSON.stringify({ token: tokens.access_token }))
    } catch (error) {
      console.log(JSON.stringify({ error: error.error ?? String(error) }))
    }
  }
}
"""


class Attempt(NamedTuple):
    """A sign-in: when it began and ended, and whether it gave tokens."""

    began: float
    ended: float
    is_signed_in: bool


class Times:
    """When a redirect URI was good. A change takes effect between the moments before and after it."""

    def __init__(self, *, is_good: bool) -> None:
        self.changes: list[tuple[float, float, bool]] = [(0.0, 0.0, is_good)]

    def say(self, began: float, *, is_good: bool) -> None:
        if is_good is not self.changes[-1][2]:
            self.changes.append((began, time.monotonic(), is_good))

    def during(self, attempt: Attempt) -> bool | None:
        """Whether it was good, or was not, as long as the attempt lasted; None where that changed meanwhile."""
        last = None
        for began, ended, is_good in self.changes:
            if ended <= attempt.began:
                last = is_good
            elif began < attempt.ended:
                return None
        return last


@contextmanager
def program(server: str, clinic: Clinic, redirect_uri: str) -> Iterator[subprocess.Popen[str]]:
    node = shutil.which("node")
    assert node, "no node on this machine: apt-get install nodejs npm"
    arguments = (server, str(clinic.party.client_id), clinic.party.connection.secret, redirect_uri)
    running = subprocess.Popen(
        [node, "--input-type=module", "-e", PROGRAM, *arguments],
        cwd=repository() / "examples",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        assert running.stdin
        running.stdin.close()
        running.wait(timeout=60)
        assert running.stdout
        running.stdout.close()


def told(running: subprocess.Popen[str], line: str) -> str:
    assert running.stdin
    assert running.stdout
    running.stdin.write(line + "\n")
    running.stdin.flush()
    return running.stdout.readline().strip()


def attempt(running: subprocess.Popen[str], clinic: Clinic) -> Attempt:
    """Sign in once: the program begins, the browser signs the user in, the program redeems the code."""
    began = time.monotonic()
    url = told(running, "begin")
    shown = httpx.get(url)
    if shown.status_code == 400:
        return Attempt(began, time.monotonic(), is_signed_in=False)
    try:
        back = sign_in(url, email=clinic.party.email, password=granting.PASSWORD)
    except AssertionError:  # it moved while the user was at the form
        return Attempt(began, time.monotonic(), is_signed_in=False)
    answer: dict[str, Any] = json.loads(told(running, back))
    return Attempt(began, time.monotonic(), is_signed_in="token" in answer)


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as made:
        yield made


async def test_a_clinic_moves_while_two_programs_sign_in(url: str) -> None:
    db = await asyncpg.connect(url)
    often = {"MITHRIL_MAX_FAILURES": "1000000", "MITHRIL_MAX_FAILURES_PER_ADDRESS": "1000000"}
    with serving("--workers", "2", "--database-url", url, **often) as process:
        async with httpx.AsyncClient(base_url=process.public) as http:
            server = Server(process.public, process.internal, url, Settings(database_url=url))
            clinic = await moving.clinic(server, http, db)
            times = {OLD: Times(is_good=True), NEW: Times(is_good=False)}
            attempts: dict[str, list[Attempt]] = {OLD: [], NEW: []}
            is_over = asyncio.Event()

            async def sign_in_without_pause(uri: str) -> None:
                with program(process.public, clinic, uri) as running:
                    while not is_over.is_set():
                        attempts[uri].append(await asyncio.to_thread(attempt, running, clinic))

            async def change(work: Any, *, old: bool, new: bool) -> None:
                """Make a change, after which these are good, and let the programs go on for a while."""
                began = time.monotonic()
                answer = await work
                assert answer is None or answer.status_code == 200, answer.text
                times[OLD].say(began, is_good=old)
                times[NEW].say(began, is_good=new)
                enough = {uri: len(made) + 4 for uri, made in attempts.items()}
                while any(len(attempts[uri]) < number for uri, number in enough.items()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

            programs = [asyncio.create_task(sign_in_without_pause(uri)) for uri in (OLD, NEW)]
            await change(asyncio.sleep(0), old=True, new=False)
            await change(clinic.begin(), old=True, new=True)
            await change(clinic.cancel(), old=True, new=False)
            await change(clinic.begin(), old=True, new=True)
            await change(clinic.pass_time(), old=False, new=True)
            await change(clinic.begin(OLD), old=True, new=True)
            await change(clinic.update(OLD), old=True, new=False)
            is_over.set()
            await asyncio.gather(*programs)
    await db.close()
    counts: Counter[tuple[bool | None, bool]] = Counter()
    for uri, made in attempts.items():
        for each in made:
            counts[times[uri].during(each), each.is_signed_in] += 1
    print(f"signing in during a move (good all the time, signed in): {dict(counts)}")  # noqa: T201
    assert not counts[True, False], "a sign-in failed that was begun at a good redirect URI"
    assert not counts[False, True], "a sign-in succeeded at one that is not good"
    assert counts[True, True] > 20
    assert counts[False, False] > 5
