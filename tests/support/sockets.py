"""Requests as bytes, which no HTTP library would send."""

import contextlib
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from support.servers import Server

PATIENCE_SECONDS, SILENCE_SECONDS = 60, 2


def connect(server: Server, *, is_internal: bool = False) -> socket.socket:
    parts = urlsplit(server.internal_url if is_internal else server.url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def read(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON body of one answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        assert piece, f"closed after {received!r}"
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65_536)
    return int(status.split()[1]), headers, json.loads(body)


def exchange(server: Server, request: bytes, *, is_internal: bool = False) -> tuple[int, dict[str, str], Any]:
    with connect(server, is_internal=is_internal) as connection:
        connection.sendall(request)
        return read(connection)


def hear(server: Server, *sent: bytes, is_internal: bool = False, least: int = 1) -> bytes:
    """Return all that comes back until the server closes or, after so many answers, falls silent."""
    received = b""
    with connect(server, is_internal=is_internal) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(ConnectionError, TimeoutError):
            for piece in sent:
                connection.sendall(piece)
            while piece := connection.recv(65_536):
                received += piece
                if received.count(b"HTTP/1.1 ") >= least:
                    connection.settimeout(SILENCE_SECONDS)
    return received


def statuses(received: bytes) -> list[int]:
    """Return the statuses of all answers."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
