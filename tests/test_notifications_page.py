"""The page about notifications: its commands run, and its receivers tell a true signature from a false one."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mithril.notifications import delivery, fields
from support import processes, repository
from support.processes import DEMO_CLIENT, DEMO_CONNECTION
from support.programs import free_port
from support.receiving import Receiver, receiving
from support.servers import Server, demo_server

pytestmark = pytest.mark.anyio

PAGE = (repository() / "docs/notifications.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
((PYTHON),) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "POLL_SECONDS", 0.02)
        with demo_server(postgres, webhook_key="k" * 32, webhook_targets="any") as running:
            yield running


async def registered(server: Server, url: str) -> str:
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        made = (await internal.post("/admin/webhooks", json={"webhook": {"url": url}})).json()
    secret: str = made["data"]["secret"]
    return secret


async def move(server: Server, name: str) -> None:
    path = f"/admin/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        answer = await internal.patch(path, json={"redirect_uri": f"https://{name}.example.com/"})
    assert answer.status_code == 200


@pytest.mark.slow
def test_the_commands_for_operators_register_a_webhook(database_url: str, tmp_path: Path) -> None:
    ran = processes.in_shell("".join(SHELL[:2]), folder=tmp_path, MITHRIL_DATABASE_URL=database_url)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^secret +whsec_\S{32}$", ran.stdout, re.MULTILINE)
    assert ran.stdout.count("https://hooks.mis.example.com/mithril") == 2


@pytest.mark.slow
async def test_the_receiver_in_python_takes_what_is_signed_and_nothing_else(server: Server) -> None:
    port = free_port()
    secret = await registered(server, f"http://127.0.0.1:{port}/")
    program = PYTHON.replace("8080", str(port))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"WEBHOOK_SECRET": secret},
    )
    try:
        assert process.stdout
        forged = {"webhook-id": "event_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=5)) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/", content=b"{}", headers=forged)
        assert answer.status_code == 401
        await move(server, "python")
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line.decode().split() == ["connection.redirect_uri_changed", DEMO_CONNECTION]
    finally:
        process.terminate()
        await process.communicate()


def is_verified(secret: str, receiver: Receiver, file: Path) -> bool:
    (head, body), *_ = receiver.requests
    file.write_bytes(body)
    arguments = [secret, *(head[f"webhook-{name}"] for name in ("id", "timestamp", "signature")), str(file)]
    ran = subprocess.run(["bash", "-c", SHELL[-1] + '\nverify "$@"', "bash", *arguments], check=False)
    return ran.returncode == 0


async def test_the_shell_function_tells_a_true_signature_from_a_false_one(server: Server, tmp_path: Path) -> None:
    async with receiving() as receiver:
        secret = await registered(server, receiver.url)
        await move(server, "shell")
        await receiver.until(lambda: receiver.requests)
        assert is_verified(secret, receiver, tmp_path / "body")
        head, body = receiver.requests[0]
        receiver.requests[0] = (head, body.replace(b"shell", b"other"))
        assert not is_verified(secret, receiver, tmp_path / "body")


def test_every_type_is_in_the_rules() -> None:
    rules = (repository() / "docs/contract/notifications.md").read_text()
    for kind in fields.WEBHOOK.schema["properties"]["events"]["items"]["enum"]:
        assert f"| `{kind}` |" in rules
