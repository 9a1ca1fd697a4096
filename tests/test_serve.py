"""`mithril serve` as a process: signals, exit statuses, and output."""

import asyncio
import functools
import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from mithril import __version__, settings
from mithril.database.database import SCHEMA_VERSION
from mithril.server import supervisor
from mithril.server.supervisor import check
from mithril.settings import Settings, SettingsError
from support import factories, processes, racing
from support.clusters import workers_of
from support.factories import bearer
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS, PATIENT, Process, run, running_postgres

serving = functools.partial(processes.serving, **PATIENT)


def patch(base: str, uri: str) -> httpx.Response:
    path = f"/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
    return httpx.patch(base + path, json={"redirect_uri": uri}, headers=DEMO_HEADERS)


@pytest.mark.slow
def test_the_demo_serves_what_it_prints_and_keeps_its_data(tmp_path: Path) -> None:
    with serving("--demo", "--home", str(tmp_path)) as process:
        response = patch(process.public, "https://example3.com")
        assert response.status_code == 200
        assert response.json()["data"]["redirect_uri"] == "https://example3.com"
        assert patch(process.public, "http://localhost:3000/callback").status_code == 200
        assert httpx.get(process.internal + "/readyz").status_code == 200
        process.stop()
        assert process.popen.returncode == 0
        assert (
            f"curl -X PATCH {process.public}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}" in process.printed
        )
    assert not running_postgres(tmp_path)

    with serving("--demo", "--home", str(tmp_path)) as process:
        again = patch(process.public, "http://localhost:3000/callback")
        assert again.headers["etag"] == '"3"', "the address of the first run is still there, so nothing changed"
        process.stop(signal.SIGINT)
        assert process.popen.returncode == 0
    assert not running_postgres(tmp_path)


def test_the_printed_request_works_as_pasted(demo_home: Path) -> None:
    with serving("--demo", "--home", str(demo_home)) as process:
        assert process.popen.stdout
        block = ""
        while "-d '" not in block:
            block += process.popen.stdout.readline()
        command = block[block.index("curl") :]
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout)["data"]["redirect_uri"] == "https://example3.com"


@pytest.mark.slow
def test_a_closed_terminal_stops_the_server_cleanly(demo_home: Path) -> None:
    ours, theirs = os.openpty()
    with serving("--home", str(demo_home), through=f'exec "$@" <{os.ttyname(theirs)}') as process:
        os.close(theirs)
        os.close(ours)
        process.end()
        assert process.popen.returncode == 0
    assert not running_postgres(demo_home)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_on_sighup_secrets_are_read_again_and_sigusr1_does_nothing(
    database_url: str, tmp_path: Path, workers: str
) -> None:
    key = tmp_path / "key"
    key.write_text("the first key")
    file = {"MITHRIL_INTERNAL_KEY_FILE": str(key)}
    with serving("--workers", workers, "--database-url", database_url, **file) as process:

        def status(key: str) -> int:
            return httpx.get(f"{process.internal}/metrics", headers={"X-Mithril-Key": key}).status_code

        assert (status("the first key"), status("the second key")) == (200, 401)
        key.write_text("")
        os.killpg(process.popen.pid, signal.SIGHUP)
        os.killpg(process.popen.pid, signal.SIGUSR1)
        time.sleep(0.7)
        assert {status("the first key") for _ in range(8)} == {200}
        key.write_text("the second key")
        before = set(workers_of(process))
        os.killpg(process.popen.pid, signal.SIGHUP)
        while before & set(workers_of(process)) or status("the second key") != 200:  # until pytest's own limit
            time.sleep(0.05)
        assert {status("the first key") for _ in range(8)} == {401}
        assert {status("the second key") for _ in range(8)} == {200}
        log = process.stop()
        assert process.popen.returncode == 0
    assert "reload_failed" in log
    assert "worker_ended" not in log


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("style", ["json", "text"])
def test_the_log_tells_the_life_of_a_server(database_url: str, tmp_path: Path, workers: str, style: str) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-that-no-log-has")
    secrets = {
        "MITHRIL_INTERNAL_KEY_FILE": str(key),
        "MITHRIL_OTP_ENDPOINT": "http://user:a-password-that-no-log-has@127.0.0.1:9/",
    }
    url = database_url.replace("postgres@", "postgres:a-password-that-no-log-has@") + "&search_path=public"
    with serving("--workers", workers, "--database-url", url, MITHRIL_LOG_FORMAT=style, **secrets) as process:
        os.kill(process.popen.pid, signal.SIGHUP)
        while "reloaded" not in os.pread(process.log.fileno(), 100_000, 0).decode():  # until pytest's own limit
            time.sleep(0.05)
        log = process.stop()
    assert "that-no-log-has" not in log
    assert "search_path" not in log
    if style == "text":
        told = re.findall(r"^\S+ \[info +\] (\w+) .*?(\w+=.*)$", log, re.MULTILINE)
        assert [name for name, _ in told][:3] == ["starting", "ready", "reloaded"]
        assert told[-1] == ("stopping", "signal=SIGTERM")
        return
    starting, ready, reloaded, *_, stopping = map(json.loads, log.splitlines())
    addresses = {"public": process.public.removeprefix("http://"), "internal": process.internal.removeprefix("http://")}
    assert (
        starting.items() >= {"event": "starting", "version": __version__, "workers": int(workers), **addresses}.items()
    )
    assert starting["database"].endswith(urlsplit(database_url).path)
    assert starting["settings"] == {
        "port": 0,
        "internal_port": 0,
        "internal_key": "***",
        "otp_endpoint": "http://***@127.0.0.1:9/",
        "log_format": "json",
        **({"workers": 2} if workers == "2" else {}),
        **{name.removeprefix("MITHRIL_").lower(): float(value) for name, value in PATIENT.items()},
    }
    assert ready.items() >= {"event": "ready", **addresses}.items()
    assert reloaded.items() >= {"event": "reloaded", "settings": ["internal_key"]}.items()
    assert stopping.items() >= {"event": "stopping", "signal": "SIGTERM"}.items()


@pytest.mark.slow
def test_under_nohup_the_server_runs_on_when_the_terminal_closes(demo_home: Path) -> None:
    ours = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which child processes inherit
    with serving("--home", str(demo_home)) as process:
        signal.signal(signal.SIGHUP, ours)
        process.popen.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert httpx.get(f"{process.public}/readyz").status_code == 200
        process.stop()
        assert process.popen.returncode == 0


@pytest.mark.slow
def test_the_log_has_request_ids_and_no_secrets(demo_home: Path) -> None:
    wrong = {"Authorization": "Bearer a-wrong-token-value", "API-key": "a-wrong-key-value"}
    with serving("--demo", "--home", str(demo_home), MITHRIL_LOG_LEVEL="debug", MITHRIL_LOG_FORMAT="json") as process:
        changed = patch(process.public, "https://example3.com")
        assert patch(process.public, "https://10.0.0.1/?a=b").status_code == 422
        httpx.patch(f"{process.public}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}", json={}, headers=wrong)
        httpx.get(f"{process.public}/admin/tokens/a-wrong-token-value/verify?token=a-wrong-token-value")
        log = process.stop()
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = (entry for entry in lines if entry.get("request_id") == changed.headers["x-request-id"])
    assert (line["status"], line["client_id"]) == (200, DEMO_CLIENT)
    for secret in (*DEMO_HEADERS.values(), *wrong.values(), "a-wrong-token-value", "ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09"):
        assert secret.removeprefix("Bearer ") not in log


@pytest.mark.slow
def test_workers_share_both_listeners(database_url: str) -> None:
    with serving("--workers", "2", "--demo", MITHRIL_DATABASE_URL=database_url) as process:
        assert patch(process.public, "https://example3.com").status_code == 200
        for base in (process.public, process.internal):
            assert {httpx.get(base + "/healthz").status_code for _ in range(8)} == {200}
        log = process.stop()
        assert process.popen.returncode == 0, log


@pytest.mark.slow
def test_workers_stop_when_their_supervisor_is_killed(database_url: str) -> None:
    with serving("--workers", "2", "--database-url", database_url) as process:
        process.popen.kill()
        process.end()
        while is_listening(process):  # until pytest's own limit
            time.sleep(0.1)


def is_listening(process: Process) -> bool:
    """Whether the public listener takes connections."""
    host, _, port = process.public.removeprefix("http://").rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.slow
def test_an_old_schema_is_reported_at_the_start(unmigrated: str) -> None:
    refused = run("serve", "--port", "0", "--internal-port", "0", "--database-url", unmigrated)
    reason = f"the database has no schema, and {SCHEMA_VERSION} is needed: run `mithril migrate` first"
    _, line, told = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert json.loads(line).items() >= {"event": "schema_refused", "level": "error", "reason": reason}.items()
    assert told == f"mithril: {reason}"


@pytest.mark.slow
def test_a_port_in_use_is_reported(database_url: str) -> None:
    with serving("--database-url", database_url) as process:
        port = process.public.rpartition(":")[2]
        refused = run("serve", "--port", port, "--internal-port", "0", "--database-url", database_url)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in refused.stderr


def test_without_a_key_the_internal_listener_does_not_bind_to_a_network(unmigrated: str) -> None:
    refused = run("serve", "--internal-host", "0.0.0.0", "--database-url", unmigrated)
    assert refused.returncode == 1
    assert "MITHRIL_INTERNAL_KEY" in refused.stderr


def test_the_listeners_cannot_share_a_port_even_on_two_ip_addresses() -> None:
    with pytest.raises(SettingsError, match="must differ"):
        check(Settings(host="127.0.0.2", port=4000, internal_port=4000))
    check(Settings(port=0, internal_port=0))


@pytest.mark.parametrize("hosts", [Settings(host="0.0.0.0"), Settings(host="::"), Settings(internal_host="192.0.2.1")])
def test_demo_data_is_not_exposed_by_accident(hosts: Settings) -> None:
    exposed = msgspec.structs.replace(hosts, demo=True, internal_key="key")
    with pytest.raises(SettingsError, match="--demo-exposed"):
        check(exposed)
    check(msgspec.structs.replace(exposed, demo_exposed=True))
    check(msgspec.structs.replace(exposed, demo=False))


@pytest.mark.parametrize("name", ["traces_endpoint", "webhook_key"])
def test_a_setting_that_needs_an_extra_is_refused_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings.load({}, **{name: "https://collector.example.org/v1/traces"})
    check(chosen)
    monkeypatch.setattr(supervisor, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=rf"^MITHRIL_{name.upper()} needs the extra `{name[:6]}"):
        check(chosen)
    check(Settings())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses_are_nobody_elses(host: str) -> None:
    check(Settings(demo=True, host=host, internal_host=host))


@pytest.mark.parametrize("name", ["host", "internal_host"])
def test_a_host_that_cannot_be_resolved_is_called_that_even_with_demo_data(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^MITHRIL_{name.upper()}: nowhere\.invalid cannot be resolved"):
        check(msgspec.structs.replace(Settings(demo=True), **{name: "nowhere.invalid"}))


@pytest.mark.slow
def test_an_exposed_demo_and_a_setting_that_cannot_be_meant_end_the_start(unmigrated: str) -> None:
    exposed = run("serve", "--demo", "--host", "0.0.0.0", "--database-url", unmigrated)
    malformed = run("serve", MITHRIL_PUBLIC_URL="auth.example.org", MITHRIL_PUBLC_URL="x")
    assert (exposed.returncode, malformed.returncode) == (1, 1)
    assert "--demo-exposed" in exposed.stderr
    assert exposed.stderr.count("\n") == 1
    assert malformed.stderr.splitlines() == [
        "mithril: no setting is called MITHRIL_PUBLC_URL; the nearest is MITHRIL_PUBLIC_URL",
        "mithril: MITHRIL_PUBLIC_URL: expected scheme and host, such as https://auth.example.org",
    ]


@pytest.mark.slow
def test_on_every_address_the_printed_urls_and_the_callers_address_are_right(demo_home: Path) -> None:
    arguments = ("--demo", "--demo-exposed", "--host", "::", "--internal-host", "::1", "--home", str(demo_home))
    with serving(*arguments, MITHRIL_TRUSTED_PROXIES="127.0.0.1") as process:
        assert process.public.startswith("http://[::]:")
        assert process.internal.startswith("http://[::1]:")
        ipv4 = process.public.replace("[::]", "127.0.0.1")
        path = f"/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
        for forwarded, expected in (("", "127.0.0.1"), ("192.0.2.9", "192.0.2.9"), ("::ffff:192.0.2.8", "192.0.2.8")):
            headers = DEMO_HEADERS | ({"X-Forwarded-For": forwarded} if forwarded else {})
            body = {"redirect_uri": f"https://{uuid4().hex}.example.com"}
            assert httpx.patch(ipv4 + path, json=body, headers=headers).status_code == 200
            said = run("audit", "--json", "--limit", "1", "--home", str(demo_home)).stdout
            assert json.loads(said)["network_address"] == expected
        for base in (process.public, process.internal, ipv4):
            assert httpx.get(base + "/healthz").status_code == 200


@pytest.mark.slow
def test_an_unreachable_database_is_reported() -> None:
    refused = run("migrate", "--database-url", "postgresql://postgres:hunter2@127.0.0.1:1/mithril")
    assert refused.returncode == 1
    assert refused.stderr.startswith("mithril: the database cannot be reached")
    assert "hunter2" not in refused.stderr


@pytest.mark.slow
def test_a_database_url_that_cannot_be_meant_does_not_start_the_server(unmigrated: str) -> None:
    refused = run("serve", "--port", "0", "--internal-port", "0", MITHRIL_DATABASE_URL=unmigrated + "&sslmode=foo")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "sslmode" in refused.stderr


@pytest.mark.slow
def test_of_several_hosts_the_one_that_takes_writes_is_used(unmigrated: str) -> None:
    socket_folder = unmigrated.partition("host=")[2]
    several = unmigrated.partition("?")[0] + f"?host=/nowhere,{socket_folder}"
    assert run("migrate", MITHRIL_DATABASE_URL=several).returncode == 0
    with serving(MITHRIL_DATABASE_URL=several) as process:
        assert httpx.get(process.public + "/readyz").status_code == 200


def test_a_running_request_is_finished_before_the_server_stops(database_url: str) -> None:
    async def scenario(process: Process) -> int:
        db = await asyncpg.connect(database_url)
        owner = await factories.client(db)
        connection = await factories.connection(db, client_id=owner.id)
        token = await factories.token(db, client=owner)
        async with httpx.AsyncClient(base_url=process.public) as http:
            async with db.transaction():
                await db.execute("LOCK TABLE connections")
                body = {"redirect_uri": "https://new.example.com/"}
                running = await racing.sent(
                    db, http.patch(connection.path, json=body, headers=bearer(token)), waiting=1
                )
                process.popen.send_signal(signal.SIGTERM)
                while is_listening(process):  # noqa: ASYNC110 -- it stops once it takes in nobody
                    await asyncio.sleep(0.01)
                assert not running.done()
            status = (await running).status_code
        await db.close()
        return status

    with serving("--database-url", database_url) as process:
        assert asyncio.run(scenario(process)) == 200
        process.end()
        assert process.popen.returncode == 0


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_connection_that_the_kernel_has_accepted_is_served_before_the_server_stops(
    database_url: str, workers: str
) -> None:
    """Its caller may have sent a change, and a front does not know whether it may send it again."""
    with serving("--workers", workers, "--database-url", database_url) as process, ExitStack() as end:
        serving_pids = workers_of(process) or [process.popen.pid]
        for pid in serving_pids:
            os.kill(pid, signal.SIGSTOP)
            while not is_stopped(pid):  # before it is, another signal would come first
                time.sleep(0.01)
        place = urlsplit(process.public)
        callers = [socket.create_connection((place.hostname, place.port), timeout=60) for _ in range(20)]
        for caller in callers:
            end.enter_context(caller)
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        process.popen.send_signal(signal.SIGTERM)
        for pid in serving_pids:
            while not is_pending(pid, signal.SIGTERM):  # until pytest's own limit
                time.sleep(0.01)
            os.kill(pid, signal.SIGCONT)
        for caller in callers:
            assert caller.recv(65_536).startswith(b"HTTP/1.1 200 ")
        process.end()
        assert process.popen.returncode == 0


def is_stopped(pid: int) -> bool:
    """Return whether a process has stopped for SIGSTOP."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Return whether a stopped process has not got a signal yet."""
    (mask,) = re.findall(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) & 1 << (number - 1))


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_answered_change_survives_a_kill_with_its_audit_row(database_url: str, workers: str) -> None:
    async def stream(process: Process) -> tuple[Any, dict[str, str]]:
        """Change one connection after another until the server stops, and return the acknowledged changes."""
        db = await asyncpg.connect(database_url)
        owner = await factories.client(db, client_type="NHS")
        connections = [await factories.connection(db, client_id=(await factories.client(db)).id) for _ in range(8)]
        token = await factories.token(db, client=owner)
        await db.close()
        answered: dict[str, str] = {}

        async def change(http: httpx.AsyncClient, connection: factories.Connection) -> None:
            for number in range(100_000):
                uri = f"https://n{number}.example.com/"
                try:
                    response = await http.patch(connection.path, json={"redirect_uri": uri}, headers=bearer(token))
                except httpx.TransportError:
                    return
                assert response.status_code == 200
                answered[response.headers["x-request-id"]] = uri

        async with httpx.AsyncClient(base_url=process.public) as http:
            changing = [asyncio.create_task(change(http, connection)) for connection in connections]
            while len(answered) < 200:  # noqa: ASYNC110 -- a count, not an event
                await asyncio.sleep(0.01)
            process.kill()
            await asyncio.gather(*changing)
        return connections, answered

    async def check(connections: Any, answered: dict[str, str]) -> None:
        db = await asyncpg.connect(database_url)
        rows = await db.fetch("SELECT request_id, new ->> 'redirect_uri' AS uri FROM audit_events")
        recorded = {row["request_id"]: row["uri"] for row in rows}
        assert len(recorded) == len(rows), "no request is recorded twice"
        assert answered.items() <= recorded.items()
        for connection in connections:
            versions = await db.fetchval("SELECT version - 1 FROM connections WHERE id = $1", connection.id)
            events = await db.fetchval("SELECT count(*) FROM audit_events WHERE subject_id = $1", connection.id)
            assert versions == events, "every change has its audit row, and every audit row its change"
        await db.close()

    process = Process("--database-url", database_url, "--workers", workers, **PATIENT)
    connections, answered = asyncio.run(stream(process))
    asyncio.run(check(connections, answered))
