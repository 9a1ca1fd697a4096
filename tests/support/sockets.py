"""Requests as bytes, which no HTTP library would send."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from support.servers import Server


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
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


def exchange(server: Server, request: bytes) -> tuple[int, dict[str, str], Any]:
    with connect(server) as connection:
        connection.sendall(request)
        return read(connection)
