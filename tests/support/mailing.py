"""A mail server that keeps what it gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field


@dataclass
class MailServer:
    """A mail server that takes everything, without TLS."""

    replies: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"220 mail.example.org\r\n")
            while line := (await reader.readline()).decode("latin-1").rstrip():
                self.commands.append(line)
                verb = line.partition(" ")[0].upper()
                if verb == "DATA":
                    writer.write(b"354 go on\r\n")
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                usual = (
                    "250-mail.example.org\r\n250 AUTH PLAIN"
                    if verb == "EHLO"
                    else "235 in"
                    if verb == "AUTH"
                    else "250 ok"
                )
                writer.write(self.replies.get(verb, usual).encode() + b"\r\n")
                if verb == "QUIT":
                    return


@asynccontextmanager
async def listening(server: MailServer) -> AsyncIterator[int]:
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
