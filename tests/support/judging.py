"""A service that judges signatures, and a register of patients, over real HTTP; and documents that users sign."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Judge(msgspec.Struct):
    """Both services: what they answer, until the next `reset`, and what they were asked.

    A document that says `by` is signed by that tax id; any other has `signatures`.
    """

    url: str = ""
    status: int = 200
    signatures: list[dict[str, Any]] = []
    body: bytes | None = None
    """The whole answer about a signature, in place of what `status` and `signatures` say."""
    headers: dict[str, str] = {}
    persons: dict[str, dict[str, Any]] = {}
    person_status: int = 200
    asked: list[tuple[str, str, Any]] = []
    is_slow: bool = False
    ending: threading.Event = msgspec.field(default_factory=threading.Event)

    def reset(self) -> None:
        self.status, self.person_status, self.body, self.is_slow = 200, 200, None, False
        self.signatures, self.headers, self.persons, self.asked = [], {}, {}, []
        self.ending.clear()

    def signs(self, drfo: object, **changes: Any) -> None:
        """Every document has one good signature of that tax id. `changes`: of the signature."""
        self.signatures = [{"is_valid": True, "signer": {"drfo": drfo}, "validation_error_message": ""} | changes]

    def answer(self, method: str, path: str, sent: bytes) -> tuple[int, bytes]:
        document: Any = json.loads(sent) if sent else None
        self.asked.append((method, path, document))
        if path.startswith("/persons/"):
            person = self.persons.get(path.removeprefix("/persons/"))
            return (self.person_status, json.dumps({"data": person}).encode()) if person else (404, b"{}")
        if self.body is not None:
            return self.status, self.body
        content = json.loads(base64.b64decode(document["signed_content"]))
        signatures = [{"is_valid": True, "signer": {"drfo": content["by"]}}] if "by" in content else self.signatures
        return self.status, json.dumps({"data": {"content": content, "signatures": signatures}}).encode()


@contextmanager
def judge() -> Iterator[Judge]:
    """Run both services on a free port."""
    services = Judge()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = services.answer(
                self.command, self.path, self.rfile.read(int(self.headers["content-length"] or 0))
            )
            if services.is_slow:
                services.ending.wait(60)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **services.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 -- the name that the server calls

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        services.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield services
        services.ending.set()
        listener.shutdown()
        thread.join()


def signed(**document: object) -> str:
    """Return a document in base64, as it is sent with its signature."""
    return base64.b64encode(json.dumps(document).encode()).decode()
