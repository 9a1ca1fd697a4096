"""The nginx configuration of docs/gateways.md, run unchanged in front of a service that echoes headers."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from support import factories, repository
from support.factories import bearer
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

KEY = "the key of the internal listener"
SCOPE = "employee:read employee:write"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url, internal_key=KEY) as running:
        yield running


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that answers with the headers of the request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()[1:-1]
    body = json.dumps({name.lower(): value for name, _, value in (line.partition(": ") for line in head)})
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short path, because that of a socket may have a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as made:
        yield Path(made)


@pytest.fixture
async def gateway(server: Server, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """nginx in front of the echo service, and a client of it."""
    if NGINX is None:
        pytest.skip("no nginx on this machine: apt-get install nginx")
    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    socket = folder / "socket"
    (block,) = re.findall(r"```nginx\n(.*?)```", (repository() / "docs/gateways.md").read_text(), re.DOTALL)
    block = block.replace("127.0.0.1:8080", f"unix:{socket}")
    block = block.replace("127.0.0.1:4001", server.internal_url.removeprefix("http://"))
    block = block.replace("127.0.0.1:5000", f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{folders}{block}}}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    environment = {"PATH": os.defpath}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)  # noqa: ASYNC220 -- takes no time
    try:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(base_url="http://gateway.example", transport=transport) as client:
            await wait_for(client, running)
            yield client
    finally:
        running.terminate()
        running.communicate()
        listener.close()


async def wait_for(client: httpx.AsyncClient, running: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(60):
        while True:
            assert running.poll() is None, running.stderr.read().decode() if running.stderr else ""
            try:
                await client.get("/")
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_nginx_passes_on_the_requests_that_mithril_accepts(server: Server, gateway: httpx.AsyncClient) -> None:
    db = await asyncpg.connect(server.database_url)
    client = await factories.client(db)
    value = await factories.token(db, client=client, scope=SCOPE)
    poor = await factories.token(db, client=client, scope="employee:write")
    forged = dict.fromkeys(("X-Consumer-Id", "X-Consumer-Scope", "X-Consumer-Metadata", "X-Person-Id"), "forged")
    request_id = "a-request-of-some-length"

    passed = await gateway.post("/api/employees", headers={**bearer(value), **forged, "X-Request-ID": request_id})
    assert passed.status_code == 200
    seen = passed.json()
    assert seen["x-consumer-id"] == str(client.user_id)
    assert seen["x-consumer-scope"] == SCOPE
    assert json.loads(seen["x-consumer-metadata"]) == {"client_id": str(client.id), "scope": SCOPE}
    assert seen["x-request-id"] == request_id
    assert "x-person-id" not in seen
    assert "forged" not in passed.text
    assert KEY not in passed.text

    await db.execute("UPDATE users SET person_id = 'the person' WHERE id = $1", client.user_id)
    assert (await gateway.get("/", headers={**bearer(value), **forged})).json()["x-person-id"] == "the person"

    nobody = await gateway.get("/api/employees", headers=forged)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert (await gateway.get("/api/employees", headers=bearer(poor))).status_code == 403
    assert (await gateway.get("/_mithril", headers=bearer(value))).status_code == 404
    assert (await gateway.get("/x?scope=employee:write", headers=bearer(poor))).status_code == 403

    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", client.user_id)
    await db.close()
    assert (await gateway.get("/api/employees", headers=bearer(value))).status_code == 401
