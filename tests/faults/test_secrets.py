"""A long run of a real server with the most detailed log: no secret appears outside the answers that issue it.

The test collects every secret that it uses: passwords, tokens, codes, one-time passwords, client secrets, API-keys,
the keys of the server. Then it searches the log, the audit trail and every other table, the log of PostgreSQL, the
bodies of all refusals, and the lists.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest

from support import factories, oauth_world
from support.clusters import running
from support.factories import Db, bearer
from support.oauth_world import ADDRESS, PASSWORD, World
from support.processes import run, serving

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

NEW_PASSWORD = "Another-Secret-Password-7"
WRONG = {
    "password": "Wr0ng-but-secret-password",
    "token": "wrong-but-secret-token-0001",
    "secret": "wrong-but-secret-0002",
}
JWT_SECRET = "a-secret-that-signs-nonces-and-is-long-enough-0123456789-abcdefghijklmno"
INTERNAL_KEY = "a-secret-key-of-the-internal-listener"


@contextmanager
def sms_service(messages: list[str]) -> Iterator[str]:
    """Run a stand-in for the SMS service; `messages` gets the bodies."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_address[1]}/sms"
    service.shutdown()
    service.server_close()


class Day:
    """The requests of the run, and the secrets in them."""

    def __init__(self, http: httpx.AsyncClient, db: Db, messages: list[str]) -> None:
        self.http, self.db, self.messages = http, db, messages
        self.secrets: set[str] = {PASSWORD, NEW_PASSWORD, JWT_SECRET, INTERNAL_KEY, *WRONG.values()}
        self.refusals: list[str] = []

    async def live(self) -> None:
        world = await oauth_world.make(self.db)
        self.secrets |= {world.key, world.link.secret}
        await self.sign_in_and_exchange(world)
        await self.guess(world)
        await self.use_a_second_factor(world)
        await self.change_the_password(world)
        await self.configure(world)
        await self.break_things(world)

    def keep(self, response: httpx.Response) -> Any:
        """Return the body. A refusal is searched later; a value that an answer issues is a secret from then on."""
        if response.status_code >= 400:
            self.refusals.append(response.text + str(response.headers))
        return response.json() if response.content else None

    async def sign_in_and_exchange(self, world: World) -> None:
        session = self.keep(await oauth_world.login(self.http, world))["data"]["value"]
        code = self.keep(await oauth_world.authorize(self.http, world, session))["data"]["value"]
        data = self.keep(await oauth_world.exchange(self.http, world, code))["data"]
        refresh = data["details"]["refresh_token"]
        self.secrets |= {session, code, data["value"], refresh}
        self.keep(await oauth_world.exchange(self.http, world, code))
        self.secrets.add(self.keep(await oauth_world.authorize(self.http, world, session))["data"]["value"])
        verifier = "secret-verifier-" + "v" * 40
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {"response_type": "code", "client_id": str(world.clinic.id), "redirect_uri": ADDRESS}
        query |= {"scope": oauth_world.ASKED, "code_challenge": challenge, "code_challenge_method": "S256"}
        page = await self.http.get("/oauth2/authorize", params=query)
        fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', page.text))
        form = fields | {"email": world.email, "password": PASSWORD}
        url = str(page.request.url)
        signed = await self.http.post(url, data=form)
        for cookie in self.http.cookies.jar:
            self.secrets.add(cookie.value or "")
        if signed.is_redirect and "code=" in signed.headers["location"]:
            code = parse_qs(urlsplit(signed.headers["location"]).query)["code"][0]
            self.secrets |= {code, verifier}
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": ADDRESS,
                "code_verifier": verifier,
            }
            token = (
                await self.http.post("/oauth2/token", data=form, auth=(str(world.clinic.id), world.link.secret))
            ).json()
            self.secrets |= {token[name] for name in ("access_token", "refresh_token") if name in token}

    async def guess(self, world: World) -> None:
        for changes in ({"password": WRONG["password"]}, {"email": WRONG["password"]}):
            self.keep(await oauth_world.login(self.http, world, **changes))
        self.keep(await oauth_world.exchange(self.http, world, WRONG["token"], client_secret=WRONG["secret"]))
        self.keep(await oauth_world.refresh(self.http, world, WRONG["token"]))
        wrong = (str(world.clinic.id), WRONG["secret"])
        for path in ("/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"):
            form = {"grant_type": "refresh_token", "token": WRONG["token"], "refresh_token": WRONG["token"]}
            self.keep(await self.http.post(path, data=form, auth=wrong))
            self.keep(await self.http.post(path, data=form, auth=(str(world.clinic.id), world.link.secret)))
        headers = bearer(WRONG["token"], api_key=WRONG["secret"])
        self.keep(await self.http.patch(world.link.path, json={"redirect_uri": WRONG["token"]}, headers=headers))
        for path in (f"/admin/tokens/{WRONG['token']}/verify", f"/admin/api_key/{WRONG['secret']}/verify"):
            self.keep(await self.http.get(path, params={"token": WRONG["token"]}))

    async def use_a_second_factor(self, world: World) -> None:
        add = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')"
        await self.db.execute(add, world.user_id)
        waiting = self.keep(await oauth_world.login(self.http, world))["data"]["value"]
        self.secrets.add(waiting)
        code = self._code()
        fields = {"grant_type": "authorize_2fa_access_token"}
        wrong = {"token": fields | {"otp": (int(code) + 1) % 1_000_000}}
        self.keep(await self.http.post("/auth/login", json=wrong, headers=bearer(waiting)))
        right = {"token": fields | {"otp": int(code)}}
        done = await self.http.post("/auth/login", json=right, headers=bearer(waiting))
        self.secrets.add(self.keep(done)["data"]["value"])
        await self.db.execute("DELETE FROM authentication_factors")

    def _code(self) -> str:
        found = re.search(r"(?<!\d)\d{6}(?!\d)", self.messages[-1])
        assert found, self.messages
        self.secrets.add(f" {found[0]}")  # six digits alone are part of many numbers
        self.secrets.add(f'"{found[0]}"')
        return found[0]

    async def change_the_password(self, world: World) -> None:
        response = await oauth_world.login(self.http, world, grant_type="change_password", scope="user:change_password")
        token = self.keep(response)["data"]["value"]
        self.secrets.add(token)
        url = "/oauth/users/actions/update_password"
        for password in (PASSWORD, WRONG["password"] * 9, NEW_PASSWORD):
            self.keep(await self.http.post(url, json={"user": {"password": password}}, headers=bearer(token)))

    async def configure(self, world: World) -> None:
        admin = await factories.client(self.db, client_type="NHS")
        scope = "connection:read connection:write connection:refresh_secret connection:delete client:read"
        token = await factories.token(self.db, client=admin, scope=scope)
        self.secrets.add(token)
        headers = bearer(token, api_key=world.key)
        url = f"{world.link.path}/actions/refresh_secret"
        new = await self.http.patch(url, json={"previous_secret_expires_in": 60}, headers=headers)
        self.secrets.add(self.keep(new)["data"]["secret"])
        self.keep(
            await self.http.patch(world.link.path, json={"redirect_uri": "https://x.example.com"}, headers=headers)
        )
        for path in (f"/api/clients/{world.clinic.id}/connections", f"{world.link.path}/history", "/api/clients"):
            response = await self.http.get(path, headers=headers)
            assert response.status_code == 200
            self.refusals.append(response.text)
        self.keep(await self.http.patch(world.link.path, json={"secret": WRONG["secret"]}, headers=headers))
        assert (await self.http.delete(world.link.path, headers=headers)).status_code == 200

    async def break_things(self, world: World) -> None:
        """Cause failures of the database, whose messages may repeat what was sent."""
        await self.db.execute("ALTER TABLE tokens RENAME TO tokens_away")
        self.keep(await oauth_world.login(self.http, world, password=NEW_PASSWORD))
        headers = bearer(WRONG["token"], api_key=WRONG["secret"])
        self.keep(await self.http.get("/api/user/roles", headers=headers))
        await self.db.execute("ALTER TABLE tokens_away RENAME TO tokens")


async def test_no_secret_is_in_logs_tables_metrics_or_refusals() -> None:
    messages: list[str] = []
    with (
        running(log_min_messages="info", log_min_error_statement="error") as cluster,
        sms_service(messages) as endpoint,
    ):
        assert run("migrate", "--database-url", cluster.url).returncode == 0
        settings = {
            "MITHRIL_LOG_LEVEL": "debug",
            "MITHRIL_LOG_FORMAT": "json",
            "MITHRIL_JWT_SECRET": JWT_SECRET,
            "MITHRIL_INTERNAL_KEY": INTERNAL_KEY,
            "MITHRIL_OTP_ENDPOINT": endpoint,
            "MITHRIL_DATABASE_URL": cluster.url,
        }
        with serving("--workers", "2", **settings) as process:
            db = await asyncpg.connect(cluster.url)
            async with httpx.AsyncClient(base_url=process.public, timeout=60) as http:
                day = Day(http, db, messages)
                await day.live()
            async with httpx.AsyncClient(base_url=process.internal) as internal:
                for key in ("wrong", INTERNAL_KEY):
                    day.refusals.append((await internal.get("/admin/x", headers={"X-Mithril-Key": key})).text)
                metrics = await internal.get("/metrics", headers={"X-Mithril-Key": INTERNAL_KEY})
                assert "/oauth/tokens" in metrics.text
            rows = await _all_rows(db)
            await db.close()
            log = process.stop() + process.printed
        places = {
            "the log": log,
            "a refusal": "\n".join(day.refusals),
            "the metrics": metrics.text,
            "a table": rows,
            "PostgreSQL's log": (cluster.folder / "log").read_text(errors="replace"),
        }
    secrets = {secret for secret in day.secrets if secret}
    assert len(secrets) > 20
    assert log.count("request_id") > 30
    found = {place: sorted(s for s in secrets if _is_in(s, text)) for place, text in places.items()}
    # A password that a user types into the e-mail field is counted as an e-mail.
    found["a table"] = [s for s in found["a table"] if s != WRONG["password"]]
    assert not any(found.values()), found
    size = sum(len(text) for text in places.values())
    print(f"secrets: {len(secrets)} looked for in {size / 1e6:.1f} MB, none found")


def _is_in(secret: str, text: str) -> bool:
    return secret in text or json.dumps(secret)[1:-1] in text


async def _all_rows(db: Db) -> str:
    tables = await db.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    texts = [await db.fetchval(f"SELECT string_agg(t::text, ' ') FROM {row['relname']} t") for row in tables]
    return "\n".join(text or "" for text in texts)
