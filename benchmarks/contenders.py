"""The measured servers: the service with one and with two workers, and the alternatives to it.

A peer is in `peers/<name>` with its own locked requirements, and is installed into its own environment there. A peer
that cannot be installed is left out, and the report says so.
"""

import base64
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import data, processes
from benchmarks.data import Size, Target
from benchmarks.load import MARK, request
from benchmarks.processes import BIN, Failed, Ready, Server
from mithril.database import embedded

PATCH, VERIFY, EXCHANGE, REFRESH, INTROSPECT = "patch", "verify", "exchange", "refresh", "introspect"
PEERS = Path(__file__).parent / "peers"
BODY = b'{"redirect_uri": "https://mis.example.com/moved/' + MARK + b'"}'
BASIC = base64.b64encode(b"gateway:gateway-secret").decode()
# The client of the peers' codes, and what it sends with one; in its code there is the number of the request.
EXCHANGED = (
    b"grant_type=authorization_code&client_id=exchanging&client_secret=exchanging-secret"
    b"&redirect_uri=https%3A%2F%2Fmis.example.com%2Fcallback&code="
)
FORM = "application/x-www-form-urlencoded"
WORKERS = 2

Requests = Callable[[int, Target], bytes]


@dataclass(frozen=True)
class Operation:
    """One kind of request of a server: the port that takes it, and the request of each target.

    `status` and `contains` distinguish the expected answer from a refusal.
    """

    requests: Requests
    port: str = "public"
    status: int = 200
    contains: bytes = b""
    of_neighbours: bool = False

    def all(self, size: Size) -> Iterator[bytes]:
        """Return one request for each target."""
        chosen = data.neighbours(size) if self.of_neighbours else data.targets(size)
        return (self.requests(k, target) for k, target in enumerate(chosen, start=1))


@dataclass(frozen=True)
class Contender:
    """A measured server: how it is installed, what it needs in the database, and its operations."""

    name: str
    title: str
    command: Callable[[Mapping[str, int]], list[str]]
    operations: Mapping[str, Operation]
    ready: Ready
    ports: tuple[str, ...] = ("public",)
    folder: Path = Path()
    install: Callable[[], None] = lambda: None
    prepare: Callable[[str], None] = lambda _: None
    add_codes: Callable[[str, Size, int, int], None] = data.add_codes
    """Adds authorization codes from a number on, so many."""
    variable: str = "PEER_DATABASE_URL"
    variables: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, database_url: str, log: Path) -> Iterator[Server]:
        """Run the server until the block ends. Raises Failed."""
        ports = {name: processes.free_port() for name in self.ports}
        variables = {self.variable: database_url, **self.variables}
        with processes.running(
            self.command(ports), ports=ports, ready=self.ready, cwd=self.folder, log=log, **variables
        ) as server:
            yield server


def patch(_: int, target: Target) -> bytes:
    """The update of a connection, with a redirect URI that it never had."""
    return request(
        "PATCH",
        f"/api/clients/{target.client_id}/connections/{target.connection_id}",
        BODY,
        authorization=f"Bearer {target.token}",
        api_key=target.api_key,
        content_type="application/json",
    )


def verify(_: int, target: Target) -> bytes:
    """The token verification that a gateway asks for."""
    return request("GET", f"/admin/tokens/{target.token}/verify", api_key=target.api_key)


def exchange(_: int, target: Target) -> bytes:
    """The exchange of a code for tokens; the number in the code is the number of the request."""
    body = (
        f'{{"token": {{"grant_type": "authorization_code", "client_id": "{target.client_id}",'
        f' "client_secret": "{target.secret}", "redirect_uri": "{target.redirect_uri}", "code": "code-'
    ).encode()
    return request("POST", "/oauth/tokens", body + MARK + b'"}}', content_type="application/json")


def refresh(k: int, target: Target) -> bytes:
    """The refresh of a confidential client, whose refresh token stays good."""
    body = (
        f'{{"token": {{"grant_type": "refresh_token", "client_id": "{target.client_id}",'
        f' "client_secret": "{target.secret}", "refresh_token": "refresh-{k}"}}}}'
    ).encode()
    return request("POST", "/oauth/tokens", body, content_type="application/json")


def introspect(_: int, target: Target) -> bytes:
    """The introspection of a token by the client that it was issued to."""
    body = f"token={target.token}".encode()
    basic = base64.b64encode(f"{target.client_id}:{target.secret}".encode()).decode()
    return request("POST", "/oauth2/introspect", body, authorization=f"Basic {basic}", content_type=FORM)


def mithril(workers: int) -> Contender:
    """The service with its defaults, so it writes a log line for every request."""

    def command(ports: Mapping[str, int]) -> list[str]:
        return [str(BIN / "mithril"), "serve", "--workers", str(workers), *processes.listeners(ports)]

    return Contender(
        name=f"mithril-{workers}",
        title=f"Mithril, {workers} worker{'s' if workers > 1 else ''}",
        command=command,
        operations={
            PATCH: Operation(patch, contains=b"/moved/"),
            VERIFY: Operation(verify, port="internal", contains=b"access_token"),
            INTROSPECT: Operation(introspect, contains=b'"active":true'),
            EXCHANGE: Operation(exchange, status=201, of_neighbours=True),
            REFRESH: Operation(refresh, status=201, of_neighbours=True),
        },
        ready=Ready("public", "/readyz"),
        ports=("public", "internal"),
        variable="MITHRIL_DATABASE_URL",
    )


def fastapi_orm() -> Contender:
    """FastAPI with the SQLAlchemy ORM."""
    folder = PEERS / "fastapi_orm"

    def command(ports: Mapping[str, int]) -> list[str]:
        options = ["--port", str(ports["public"]), "--workers", str(WORKERS), "--no-access-log"]
        return [str(folder / ".venv/bin/uvicorn"), "app:app", "--log-level", "warning", *options]

    return Contender(
        name="fastapi_orm",
        title="FastAPI + SQLAlchemy ORM",
        command=command,
        operations={PATCH: Operation(patch, contains=b"/moved/"), VERIFY: Operation(verify, contains=b"access_token")},
        ready=Ready("public", "/docs"),
        folder=folder,
        install=lambda: processes.install_python(folder),
    )


def django() -> Contender:
    """An ordinary Django view, and the introspection and the token endpoint of django-oauth-toolkit."""
    folder = PEERS / "django"

    def introspect(k: int, _: Target) -> bytes:
        body = f"token=django-token-{k}".encode()
        return request("POST", "/o/introspect/", body, authorization="Bearer django-token-0", content_type=FORM)

    def exchange(_: int, __: Target) -> bytes:
        return request("POST", "/o/token/", EXCHANGED + b"django-code-" + MARK, content_type=FORM)

    def command(ports: Mapping[str, int]) -> list[str]:
        options = ["--workers", str(WORKERS), "--threads", "4", "--bind", f"127.0.0.1:{ports['public']}"]
        return [str(folder / ".venv/bin/gunicorn"), "wsgi", "--log-level", "error", *options]

    def prepare(database_url: str) -> None:
        environment = {"PEER_DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "settings"}
        processes.run(
            [str(folder / ".venv/bin/django-admin"), "migrate", "--pythonpath", ".", "-v0"], folder, environment
        )
        _add_tokens(folder, database_url)

    return Contender(
        name="django",
        title="Django; django-oauth-toolkit",
        command=command,
        operations={
            PATCH: Operation(patch, contains=b"/moved/"),
            INTROSPECT: Operation(introspect, contains=b'"active": true'),
            EXCHANGE: Operation(exchange, contains=b"refresh_token"),
        },
        ready=Ready("public", "/", 404),
        add_codes=partial(_add_codes, folder),
        folder=folder,
        install=lambda: processes.install_python(folder),
        prepare=prepare,
    )


def oidc_provider() -> Contender:
    """The introspection and the token endpoint of oidc-provider."""
    folder = PEERS / "oidc_provider"

    def introspect(k: int, _: Target) -> bytes:
        body = f"token=oidc-token-{k:032d}".encode()
        return request("POST", "/token/introspection", body, authorization=f"Basic {BASIC}", content_type=FORM)

    def exchange(_: int, __: Target) -> bytes:
        return request("POST", "/token", EXCHANGED + b"oidc-code-" + b"0" * 23 + MARK, content_type=FORM)

    return Contender(
        name="oidc_provider",
        title="oidc-provider (node)",
        command=lambda ports: ["node", "server.js", str(ports["public"]), str(WORKERS)],
        operations={
            INTROSPECT: Operation(introspect, contains=b'"active":true'),
            EXCHANGE: Operation(exchange, contains=b"refresh_token"),
        },
        ready=Ready("public", "/.well-known/openid-configuration"),
        folder=folder,
        install=lambda: _install_node(folder),
        prepare=lambda url: _add_tokens(folder, url),
        add_codes=partial(_add_codes, folder),
        variables={"NODE_ENV": "production"},
    )


def peers() -> list[Contender]:
    """Return all contenders except the service."""
    return [fastapi_orm(), django(), oidc_provider()]


def _install_node(folder: Path) -> None:
    """Install with npm what the lock file says, as `install_python` does for Python."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Failed("node and npm are not installed")
    lock, mark = folder / "package-lock.json", folder / "node_modules" / "installed"
    if mark.exists() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    processes.run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder, {})
    mark.touch()


def _add_tokens(folder: Path, database_url: str) -> None:
    _run_sql(folder / "tokens.sql", database_url, targets=data.TARGETS)


def _add_codes(folder: Path, database_url: str, _: Size, first: int, count: int) -> None:
    _run_sql(folder / "codes.sql", database_url, first=first, last=first + count - 1)


def _run_sql(script: Path, database_url: str, **variables: int) -> None:
    psql = str(embedded.postgres_bin() / "psql")
    given = [f"--set={name}={value}" for name, value in variables.items()]
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *given]
    processes.run([psql, *options, "-f", str(script), database_url], script.parent, {})
