"""A day's life: sign-ins, verifications and changes for a long time, and what grows meanwhile.

The day is 200 sign-ins, 2000 verifications and 20 changes a second. Here rates, lifetimes of tokens and the times
between cleanups and between looks of the autovacuum are one twentieth of that; so in each table the share of rows that
come and go between two cleanups is as there. Refresh tokens live shorter still, so that the tables are replaced several
times in an hour. Passwords have a cheap hash: the real one would leave the processors no time for the rest.
"""

import asyncio
import dataclasses
import itertools
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import argon2
import asyncpg
import psutil
from rich.console import Console

from benchmarks import contenders, data, measuring, report
from benchmarks.contenders import mithril
from benchmarks.data import SCOPE, Size, Target
from benchmarks.load import MARK, request
from benchmarks.processes import MEBIBYTE, Server
from benchmarks.report import Life, Moment
from mithril.database import embedded

SCALE = 20
SIGN_IN, VERIFY, CHANGE = "sign-in", "verify", "change"
PER_SECOND = {SIGN_IN: 200, VERIFY: 2000, CHANGE: 20}
SIZE = Size(connections=20_000, tokens=10_000)
LIFETIMES = {  # the defaults, in seconds, but for refresh tokens: those would outlive the measurement
    "MITHRIL_AUTH_CODE_GRANT_LIFETIME": str(300 // SCALE),
    "MITHRIL_AUTH_ACCESS_TOKEN_LIFETIME": str(3600 // SCALE),
    "MITHRIL_SWEEP_INTERVAL": str(300 // SCALE),
    "MITHRIL_AUTH_REFRESH_TOKEN_LIFETIME": "600",
    "MITHRIL_TOKEN_TTL_AFTER_EXPIRATION_DAYS": "0",
}
AUTOVACUUM_SECONDS = 60 // SCALE
PASSWORD = "A-day-has-24-hours"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
# A client through which all users may log in.
ADD_FRONT = f"""
INSERT INTO client_types (id, name, scope) VALUES (md5('type FRONT')::uuid, 'FRONT', 'app:authorize');
INSERT INTO clients (id, name, user_id, client_type_id, settings, priv_settings)
VALUES (md5('front')::uuid, 'Front', md5('user 0')::uuid, md5('type FRONT')::uuid,
        '{{"allowed_grant_types": ["password"]}}', '{{"access_type": "DIRECT"}}');
UPDATE users SET password_hash = '{CHEAP.hash(PASSWORD)}';
ALTER SYSTEM SET autovacuum_naptime = '{AUTOVACUUM_SECONDS}s';
"""
SIZES = """
SELECT relname AS name, pg_table_size(relid) AS heap, pg_indexes_size(relid) AS indexes, n_live_tup AS live,
       n_dead_tup AS dead, autovacuum_count AS vacuums
  FROM pg_stat_user_tables WHERE n_live_tup + n_dead_tup > 0
"""
LENGTH = re.compile(rb"content-length: (\d+)")
RECENT = 500  # tokens to verify: far from expired
JSON = "application/json"


class Caller(NamedTuple):
    """Sends requests to a port, over connections that it keeps."""

    port: int
    idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    async def ask(self, sent: bytes, *, expected: int = 200) -> bytes:
        """Return the body of the answer. Raises ValueError for another status than the expected one."""
        reader, writer = self.idle.popleft() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.idle.append((reader, writer))
        if int(head.split(b" ", 2)[1]) != expected:
            raise ValueError(body)
        return body

    async def post(self, path: str, body: object, **headers: str) -> dict[str, Any]:
        """Return the data of a 201. Raises ValueError for any other answer."""
        sent = request("POST", path, json.dumps(body).encode(), content_type=JSON, **headers)
        made: dict[str, Any] = json.loads(await self.ask(sent, expected=201))["data"]
        return made


class Day:
    """The load of a day on one server."""

    def __init__(self, server: Server) -> None:
        """`server`: one that runs."""
        self._public, self._internal = (Caller(server.ports[name], deque()) for name in ("public", "internal"))
        self._users = itertools.cycle(enumerate(data.neighbours(SIZE), start=1))
        self._changed = itertools.cycle(data.targets(SIZE))
        self._numbers = itertools.count(1)
        self._tokens: deque[tuple[str, Target]] = deque(maxlen=RECENT)
        self.taken: dict[str, list[float]] = {name: [] for name in PER_SECOND}
        self.errors: list[str] = []

    async def live(self, seconds: float) -> None:
        """Do everything at its rate for so long."""
        acts = {SIGN_IN: self._sign_in, VERIFY: self._verify, CHANGE: self._change}
        async with asyncio.TaskGroup() as group:
            for name, act in acts.items():
                group.create_task(self._repeat(name, act, PER_SECOND[name] / SCALE, seconds))

    async def _repeat(self, name: str, act: Callable[[], Awaitable[None]], per_second: float, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as group:
            for number in range(round(per_second * seconds)):
                due = began + number / per_second
                await asyncio.sleep(max(0.0, due - clock()))
                group.create_task(self._once(name, act, due))

    async def _once(self, name: str, act: Callable[[], Awaitable[None]], due: float) -> None:
        """Do it, and measure from the moment at which it was due."""
        try:
            await act()
        except (ValueError, OSError, EOFError) as error:
            self.errors.append(repr(error))
        self.taken[name].append((asyncio.get_running_loop().time() - due) * 1000)

    async def _sign_in(self) -> None:
        k, target = next(self._users)
        n = k * SIZE.connections // data.TARGETS - 1
        login = {"grant_type": "password", "email": f"person-{n}@example.com", "password": PASSWORD}
        login |= {"client_id": str(data.identifier("front")), "scope": "app:authorize"}
        session = await self._public.post("/auth/login", {"token": login})
        asked = {"client_id": str(target.client_id), "redirect_uri": target.redirect_uri, "scope": SCOPE}
        bearer = f"Bearer {session['value']}"
        code = await self._public.post("/oauth/apps/authorize", {"app": asked}, authorization=bearer)
        token = {"grant_type": "authorization_code", "code": code["value"], "client_secret": target.secret, **asked}
        issued = await self._public.post("/oauth/tokens", {"token": token})
        self._tokens.append((issued["value"], target))

    async def _verify(self) -> None:
        if not self._tokens:
            return
        value, target = self._tokens[next(self._numbers) % len(self._tokens)]
        await self._internal.ask(request("GET", f"/admin/tokens/{value}/verify", api_key=target.api_key))

    async def _change(self) -> None:
        number = next(self._numbers)
        sent = contenders.patch(number, next(self._changed)).replace(MARK, b"%010d" % number)
        await self._public.ask(sent)


def live(console: Console, *, minutes: int, note: Callable[[Life], None]) -> None:
    """Live a day of so many minutes, and note after each one what is known by then."""
    service = dataclasses.replace(mithril(2), variables=LIFETIMES)
    with measuring.scratch_folder() as folder, embedded.running(folder / "home") as postgres:
        url = measuring.new_database(postgres, "life", SIZE)
        for statement in ADD_FRONT.strip().split(";\n"):
            measuring.execute(url, statement)
        measuring.execute(url, "SELECT pg_reload_conf()")
        with service.running(url, Path(folder) / "server.log") as server:
            asyncio.run(_live(console, server, url, minutes=minutes, note=note))


async def _live(console: Console, server: Server, url: str, *, minutes: int, note: Callable[[Life], None]) -> None:
    day, lived = Day(server), Life(date=report.today(), machine=report.machine(), moments=[])
    await day.live(5)  # the first requests open connections
    for minute in range(1, minutes + 1):
        day.taken, day.errors = {name: [] for name in PER_SECOND}, []
        psutil.cpu_percent()
        await day.live(60)
        taken = {name: quantiles(found, n=100) for name, found in day.taken.items()}
        moment = Moment(
            minute=minute,
            p50={name: median(found) for name, found in day.taken.items()},
            p99={name: found[98] for name, found in taken.items()},
            errors=len(day.errors),
            tables=await _tables(url),
            mebibytes=server.worker_mebibytes(),
            others=psutil.cpu_percent() / 100,
        )
        lived.moments.append(moment)
        note(lived)
        total = sum(table["heap"] + table["indexes"] for table in moment.tables.values()) / MEBIBYTE
        console.print(
            f"{minute:>3} min  {total:>7.1f} MiB  worker {moment.mebibytes:.1f} MiB  "
            + "  ".join(f"{name} {moment.p50[name]:.1f}/{moment.p99[name]:.1f} ms" for name in PER_SECOND)
            + (f"  {moment.errors} errors: {day.errors[0][:200]}" if day.errors else ""),
            highlight=False,
            soft_wrap=True,
        )


async def _tables(url: str) -> dict[str, dict[str, int]]:
    connection = await asyncpg.connect(url)
    rows = [dict(row) for row in await connection.fetch(SIZES)]
    await connection.close()
    return {row.pop("name"): row for row in rows}
