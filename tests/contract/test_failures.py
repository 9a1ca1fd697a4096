"""Failures of the server: a neutral answer, the reason in the log, and no secret in either."""

import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril.connections import service
from support import factories
from support.factories import Db, bearer
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

BODY = {"redirect_uri": "https://new.example.com/callback"}


@pytest.fixture
async def target(db: Db) -> tuple[factories.Connection, str]:
    owner = await factories.client(db)
    return await factories.connection(db, client_id=owner.id), await factories.token(db, client=owner)


async def test_an_unexpected_exception_is_a_neutral_500(
    http: httpx.AsyncClient,
    target: tuple[factories.Connection, str],
    monkeypatch: pytest.MonkeyPatch,
    logged: CapturingLogger,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a private detail")

    connection, token = target
    monkeypatch.setattr(service, "change_redirect_uri", broken)
    response = await http.patch(connection.path, json=BODY, headers=bearer(token))

    assert response.status_code == 500
    assert response.json() == {
        "meta": {
            "code": 500,
            "url": f"{http.base_url}{connection.path}",
            "type": "object",
            "request_id": response.headers["x-request-id"],
        },
        "error": {"type": "internal_error"},
    }
    (failure,) = (call.kwargs for call in logged.calls if call.method_name == "error")
    assert failure["request_id"] == response.headers["x-request-id"]
    assert str(failure["exc_info"]) == "a private detail"


@pytest.mark.slow
async def test_a_locked_row_is_503_and_changes_nothing(
    server: Server, db: Db, target: tuple[factories.Connection, str]
) -> None:
    connection, token = target
    transaction = db.transaction()
    await transaction.start()
    await db.execute("SELECT 1 FROM connections WHERE id = $1 FOR UPDATE", connection.id)
    with running_server(database_url=server.database_url, statement_timeout=3) as impatient:
        async with httpx.AsyncClient(base_url=impatient.url) as http:
            response = await http.patch(connection.path, json=BODY, headers=bearer(token))
    await transaction.rollback()
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "service_unavailable"
    assert response.headers["retry-after"] == "1"
    assert await db.fetchval("SELECT version FROM connections WHERE id = $1", connection.id) == 1
    assert await db.fetchval("SELECT count(*) FROM audit_events WHERE subject_id = $1", connection.id) == 0
