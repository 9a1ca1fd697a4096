"""The clock of service and PostgreSQL is set back and forward by an hour during writes.

A small preloaded library shifts the wall clock of a process. It does not change the monotonic clock, and neither does
setting a real clock.
"""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from mithril.settings import Settings
from support import factories, moving
from support.clusters import folders, running
from support.factories import bearer
from support.moving import NEW, OLD
from support.processes import run, serving
from support.servers import Server
from support.writing import prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

HOUR, TEN_MINUTES = 3_600, 600
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    offset = page == MAP_FAILED ? 0 : page;
}

static int64_t shift(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *moment) {
    int result = syscall(SYS_clock_gettime, clock, moment);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) moment->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *moment, void *zone) {
    int result = syscall(SYS_gettimeofday, moment, zone);
    moment->tv_sec += shift();
    return result;
}

time_t time(time_t *moment) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (moment) *moment = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """The wall clock of the processes that run with `environment`."""

    def __init__(self, folder: Path) -> None:
        self.offset = folder / "offset"
        self.set(0)
        library = folder / "clock.so"
        (folder / "clock.c").write_text(SOURCE)
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a clock that can be set back is compiled, and there is no C compiler (cc)")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True)
        for path in (self.offset, library):
            path.chmod(0o755)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self.offset)}

    def set(self, seconds: int) -> None:
        """Set the difference from the true time."""
        with self.offset.open("r+b" if self.offset.exists() else "w+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock() -> Iterator[Clock]:
    with folders() as folder:
        yield Clock(folder)


async def test_the_clock_is_set_back_and_forward(clock: Clock) -> None:
    with running(environment=clock.environment) as cluster:
        assert run("migrate", "--database-url", cluster.url).returncode == 0
        with serving("--workers", "2", "--database-url", cluster.url, **clock.environment) as process:
            async with writing(process.public, cluster.url) as stream:
                db = await asyncpg.connect(cluster.url)
                true = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())")
                clock.set(-HOUR)
                shifted = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())")
                assert -HOUR - 5 < shifted - true < -HOUR + 60, "PostgreSQL sees the other time"
                silence_back = await stream.more(200)
                short = await _token_of(db, seconds=600)
                clock.set(0)
                silence_forth = await stream.more(200)
                expired = await _status(process.public, short)
                await db.close()
            assert not stream.refused
            assert not stream.unanswered
            await prove_nothing_is_lost(stream, cluster.url)
    assert expired == 401, "a token lives by the clock of the database, whatever it was when it was issued"
    assert max(silence_back, silence_forth) < 5
    report("the clock set back and forth", stream, longest_silence=stream.longest_silence())


async def test_a_transition_ends_by_the_clock_of_the_database(clock: Clock) -> None:
    """Set back before the end is stored, the clock says again what it said then; afterwards it revives nothing."""
    with running(environment=clock.environment) as cluster:
        assert run("migrate", "--database-url", cluster.url).returncode == 0
        quiet = {"MITHRIL_SWEEP_INTERVAL": "0"}
        with serving("--database-url", cluster.url, **clock.environment, **quiet) as process:
            db = await asyncpg.connect(cluster.url)
            async with httpx.AsyncClient(base_url=process.public) as http:
                server = Server(process.public, process.internal, cluster.url, Settings(database_url=cluster.url))
                clinic = await moving.clinic(server, http, db)
                await clinic.begin(seconds=TEN_MINUTES)
                tags = [await clinic.tag()]
                good = [await clinic.good()]
                for offset in (TEN_MINUTES + 60, 0, -TEN_MINUTES, TEN_MINUTES + 60):
                    clock.set(offset)
                    good.append(await clinic.good())
                    tags.append(await clinic.tag())
                code = await clinic.code(NEW)
                assert run("sweep", "--database-url", cluster.url, **clock.environment).returncode == 0
                for offset in (TEN_MINUTES + 60, 0, -TEN_MINUTES):
                    clock.set(offset)
                    good.append(await clinic.good())
                    tags.append(await clinic.tag())
                clock.set(TEN_MINUTES + 60)
                assert await clinic.redeem(code, NEW) == 201
            await db.close()
    both, new = [OLD, NEW], [NEW]
    assert good == [both, new, both, both, new, new, new, new]
    assert [tag == tags[1] for tag in tags] == [each == new for each in good]


async def _token_of(db: factories.Db, *, seconds: int) -> str:
    return await factories.token(db, client=await factories.client(db), expires_in=seconds)


async def _status(server: str, token: str) -> int:
    async with httpx.AsyncClient(base_url=server) as http:
        return (await http.get("/api/user/roles", headers=bearer(token))).status_code
