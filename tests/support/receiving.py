"""A receiver of webhooks, which keeps what it gets and answers as a test says."""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook


@dataclass
class Receiver:
    """What was received, in order: the head of each request and its body."""

    answer: str = "204 No Content"
    delay_seconds: float = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: int = 0  # also those that have no answer yet
    verified: Counter[str] = field(default_factory=Counter)  # requests, by secret
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError):  # a sender that was killed
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            head = {"line": lines[0]} | dict(line.lower().split(": ", 1) for line in lines[1:-2])
            head["webhook-signature"] = next(line[19:] for line in lines if line.lower().startswith("webhook-sig"))
            body = await reader.readexactly(int(head["content-length"]))
            self.arrived += 1
            if self.delay_seconds:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.delay_seconds):
                        await reader.read()
                        return  # the sender has gone
            self.requests.append((head, body))
            writer.write(f"HTTP/1.1 {self.answer}\r\ncontent-length: 0\r\n\r\n".encode())

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def types(self) -> list[str]:
        return [body["type"] for body in self.bodies]

    async def until(self, ask: Callable[[], object]) -> None:
        """Wait for something that the server brings about. `ask`: whether it is so, or what to await for that."""
        async with asyncio.timeout(60):
            while True:
                found = ask()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.01)

    def verify(self, secret: str) -> None:
        """Fail unless each request has a signature by this secret, which is too old after five minutes.

        What an earlier call has verified is not looked at again.
        """
        for head, body in self.requests[self.verified[secret] :]:
            Webhook(secret).verify(body, head)
            self.verified[secret] += 1


@asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    receiver = Receiver()
    listener = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        receiver.url = f"{'https' if tls else 'http'}://{host}:{port}/hook?a=b"
        yield receiver


async def outcomes(internal: httpx.AsyncClient) -> Counter[str]:
    """Return what became of notifications, as the server counts it: `webhook retried` and so on."""
    shown = (await internal.get("/metrics")).text
    found = re.findall(r'mithril_notifications_total{channel="(\w+)",outcome="(\w+)"} (\S+)', shown)
    return Counter({f"{channel} {outcome}": int(float(number)) for channel, outcome, number in found})


async def delay(internal: httpx.AsyncClient) -> float:
    """Return how far notifications are behind, as the server measures it, in seconds."""
    (found,) = re.findall(
        r"^mithril_notification_delay_seconds (\S+)", (await internal.get("/metrics")).text, re.MULTILINE
    )
    return float(found)
