"""An action that needs no body takes whatever a library sends when it is given nothing to send."""

from typing import Any

import httpx
import pytest

from support import administering, factories
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
PARTS = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n60\r\n--b--\r\n'


async def pieces(*parts: bytes) -> Any:
    for part in parts:
        yield part


EMPTY: dict[str, dict[str, Any]] = {
    "none": {},
    "no content": {"content": b"", "headers": JSON},
    "an empty list": {"content": b"[]", "headers": JSON},
    "null": {"content": b" null ", "headers": JSON},
    "an empty object": {"content": b"{}", "headers": JSON},
    "a form": {"content": b"a=b", "headers": FORM},
    "an empty form": {"content": b"", "headers": FORM},
    "a form in parts": {"content": PARTS % b"a", "headers": MULTIPART},
    "a form with a charset": {"content": b"a=b", "headers": {"content-type": FORM["content-type"] + "; charset=utf-8"}},
}


async def refresh_secret(http: httpx.AsyncClient, db: Db, body: dict[str, Any]) -> httpx.Response:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, scope="connection:refresh_secret")
    headers = body.get("headers", {}) | bearer(token)
    return await http.patch(f"{connection.path}/actions/refresh_secret", **body | {"headers": headers})


@pytest.mark.parametrize("body", EMPTY.values(), ids=EMPTY)
async def test_every_action_takes_it(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, body: dict[str, Any]
) -> None:
    assert (await refresh_secret(http, db, body)).status_code == 200
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    user_id = await factories.user(db)
    one = f"/admin/clients/{owner.id}"
    actions = [
        f"{one}/connections/{connection.id}/actions/refresh_secret",
        f"{one}/actions/deactivate_tokens",
        f"/admin/users/{user_id}/actions/block",
        f"/admin/users/{user_id}/actions/unblock",
    ]
    for action in actions:
        response = await admin.patch(action, **body | {"headers": body.get("headers", {}) | administering.HEADERS})
        assert response.status_code in {200, 204}, (action, response.text)


@pytest.mark.parametrize("headers", [{}, JSON, FORM])
async def test_a_body_of_unknown_length_may_be_empty(http: httpx.AsyncClient, db: Db, headers: dict[str, str]) -> None:
    assert (await refresh_secret(http, db, {"content": pieces(), "headers": headers})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": b"[1]", "headers": JSON}, 422),
        ({"content": b"[[]]", "headers": JSON}, 422),
        ({"content": b"0", "headers": JSON}, 422),
        ({"content": b'""', "headers": JSON}, 422),
        ({"content": b"false", "headers": JSON}, 422),
        ({"content": b"[", "headers": JSON}, 400),
        ({"content": b" ", "headers": JSON}, 400),
        ({"content": b"a=b"}, 415),
        ({"content": pieces(b"{", b"}")}, 415),
        ({"content": b"a=b", "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"a=b", "headers": FORM | {"content-encoding": "gzip"}}, 415),
        ({"content": b"previous_secret_expires_in=60", "headers": FORM}, 415),
        ({"content": PARTS % b"previous_secret_expires_in", "headers": MULTIPART}, 415),
        ({"content": b"a" * 65_537, "headers": FORM}, 413),
    ],
)
async def test_what_says_something_else_is_still_refused(
    http: httpx.AsyncClient, db: Db, body: dict[str, Any], status: int
) -> None:
    assert (await refresh_secret(http, db, body)).status_code == status
