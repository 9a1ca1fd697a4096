"""Authlib and requests-oauthlib, unchanged, configured only by the metadata document.

The user's part, from the authorization URL of the library to the redirect back, goes through the pages like a browser
without scripts.
"""

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import httpx
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from oauthlib.oauth2 import InvalidGrantError
from requests_oauthlib import OAuth2Session

from support import granting
from support.browsing import sign_in
from support.factories import bearer
from support.granting import SCOPE, Party
from support.servers import Server

WITH_SECRET = ["client_secret_basic", "client_secret_post"]


def metadata(server: Server) -> dict[str, Any]:
    """The metadata document."""
    return dict(httpx.get(f"{server.url}/.well-known/oauth-authorization-server").json())


def make(server: Server, *, is_public: bool = False) -> Party:
    """Add a client and a user, for a test that is not asynchronous."""

    async def inserted() -> Party:
        connection = await asyncpg.connect(server.database_url)
        try:
            return await granting.party(connection, is_public=is_public)
        finally:
            await connection.close()

    return asyncio.run(inserted())


def consent(server: Server, party: Party, address: str) -> str:
    """Sign in and consent at the URL, and return the URL to which the browser is redirected."""
    assert address.startswith(f"{metadata(server)['authorization_endpoint']}?")
    back = sign_in(address, email=party.email, password=granting.PASSWORD)
    assert back.startswith(f"{party.redirect_uri}?")
    assert dict(parse_qsl(urlsplit(back).query))["iss"] == metadata(server)["issuer"]
    return back


def accepts(server: Server, party: Party, token: dict[str, Any]) -> bool:
    """Return whether the API accepts the access token."""
    path = f"{server.url}/api/clients/{party.client_id}/connections"
    return httpx.get(path, headers=bearer(token["access_token"])).status_code == 200


def walk_with_authlib(client: Any, server: Server, party: Party, verifier: str) -> None:
    """Authorize, exchange, call, refresh, introspect and revoke with a session of Authlib."""
    where = metadata(server)
    address, state = client.create_authorization_url(where["authorization_endpoint"], code_verifier=verifier)
    back = consent(server, party, address)

    first = client.fetch_token(
        where["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
    )
    assert first["token_type"] == "Bearer"
    assert first["scope"] == SCOPE
    assert not first.is_expired()
    assert client.get(f"{server.url}/api/clients/{party.client_id}/connections").status_code == 200

    second = client.refresh_token(where["token_endpoint"])
    assert second["access_token"] != first["access_token"]
    assert accepts(server, party, second)

    shown = client.introspect_token(where["introspection_endpoint"], token=second["access_token"])
    assert shown.json()["sub"] == str(party.user_id)
    assert client.revoke_token(where["revocation_endpoint"], token=second["refresh_token"]).status_code == 200
    assert not accepts(server, party, second)
    with pytest.raises(OAuthError, match="invalid_grant"):
        client.refresh_token(where["token_endpoint"], refresh_token=second["refresh_token"])


# Authlib


def test_the_metadata_are_valid_to_authlib(server: Server) -> None:
    document = AuthorizationServerMetadata(metadata(server))
    # In production the URLs are https; here they are on loopback.
    for rule in AuthorizationServerMetadata.REGISTRY_KEYS:
        if not rule.endswith("_endpoint") and rule != "issuer":
            getattr(document, f"validate_{rule}")()


@pytest.mark.parametrize("session", [OAuth2Client, AuthlibSession])
@pytest.mark.parametrize("method", WITH_SECRET)
def test_authlib_with_a_secret(server: Server, session: Any, method: str) -> None:
    party = make(server)
    with session(
        *party.basic,
        scope=SCOPE,
        redirect_uri=party.redirect_uri,
        code_challenge_method="S256",
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    ) as client:
        walk_with_authlib(client, server, party, granting.VERIFIER)


@pytest.mark.parametrize("session", [OAuth2Client, AuthlibSession])
def test_authlib_as_a_public_client(server: Server, session: Any) -> None:
    party, where = make(server, is_public=True), metadata(server)
    options = {"scope": SCOPE, "redirect_uri": party.redirect_uri, "code_challenge_method": "S256"}
    with session(str(party.client_id), token_endpoint_auth_method="none", **options) as client:
        address, state = client.create_authorization_url(
            where["authorization_endpoint"], code_verifier=granting.VERIFIER
        )
        back = consent(server, party, address)
        sent = {"authorization_response": back, "state": state, "code_verifier": granting.VERIFIER}
        first = client.fetch_token(where["token_endpoint"], **sent)
        second = client.refresh_token(where["token_endpoint"])

        assert second["refresh_token"] != first["refresh_token"]
        assert accepts(server, party, second)
        assert client.revoke_token(where["revocation_endpoint"], token=second["refresh_token"]).status_code == 200
        assert not accepts(server, party, second)


@pytest.mark.anyio
async def test_authlib_asynchronously_with_a_refresh_of_its_own(server: Server) -> None:
    party, where = await asyncio.to_thread(make, server), await asyncio.to_thread(metadata, server)
    updated: list[dict[str, Any]] = []

    async def update(token: dict[str, Any], **_: object) -> None:
        updated.append(token)

    options = {"scope": SCOPE, "redirect_uri": party.redirect_uri, "code_challenge_method": "S256"}
    async with AsyncOAuth2Client(*party.basic, update_token=update, **where, **options) as client:
        address, _ = client.create_authorization_url(where["authorization_endpoint"], code_verifier=granting.VERIFIER)
        back = await asyncio.to_thread(consent, server, party, address)
        await client.fetch_token(authorization_response=back, code_verifier=granting.VERIFIER)
        client.token["expires_at"] = 1
        response = await client.get(f"{server.url}/api/clients/{party.client_id}/connections")

    assert response.status_code == 200
    (token,) = updated
    assert await asyncio.to_thread(accepts, server, party, token)


def test_authlib_reports_the_error(server: Server) -> None:
    party, where = make(server), metadata(server)
    client = OAuth2Client(str(party.client_id), "wrong", redirect_uri=party.redirect_uri)
    with client, pytest.raises(OAuthError) as refused:
        client.fetch_token(where["token_endpoint"], code="any")

    assert (refused.value.error, refused.value.description) == ("invalid_client", "Invalid client id or secret.")


# requests-oauthlib


@pytest.fixture
def _loopback_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow http: the library requires https, and the test server has none."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.mark.usefixtures("_loopback_will_do")
@pytest.mark.parametrize("sent_in", ["header", "body"])
def test_requests_oauthlib_with_a_secret(server: Server, sent_in: str) -> None:
    party, where = make(server), metadata(server)
    secret = party.connection.secret
    with OAuth2Session(
        str(party.client_id), redirect_uri=party.redirect_uri, scope=SCOPE.split(), pkce="S256"
    ) as client:
        address, _ = client.authorization_url(where["authorization_endpoint"])
        back = consent(server, party, address)
        first = client.fetch_token(
            where["token_endpoint"],
            authorization_response=back,
            client_secret=secret,
            include_client_id=sent_in == "body",
        )
        assert client.get(f"{server.url}/api/clients/{party.client_id}/connections").status_code == 200
        credentials = {"auth": party.basic} if sent_in == "header" else party.body
        second = client.refresh_token(where["token_endpoint"], **credentials)

    assert first["scope"] == SCOPE.split()
    assert second["access_token"] != first["access_token"]
    assert accepts(server, party, second)


@pytest.mark.usefixtures("_loopback_will_do")
@pytest.mark.parametrize("names_itself_in", ["header", "body"])
def test_requests_oauthlib_as_a_public_client(server: Server, names_itself_in: str) -> None:
    party, where = make(server, is_public=True), metadata(server)
    with OAuth2Session(
        str(party.client_id), redirect_uri=party.redirect_uri, scope=SCOPE.split(), pkce="S256"
    ) as client:
        address, _ = client.authorization_url(where["authorization_endpoint"])
        back = consent(server, party, address)
        # The library sends Basic with an empty password by default.
        in_body = True if names_itself_in == "body" else None
        first = client.fetch_token(where["token_endpoint"], authorization_response=back, include_client_id=in_body)
        second = client.refresh_token(where["token_endpoint"], client_id=str(party.client_id))
        third = client.refresh_token(where["token_endpoint"], client_id=str(party.client_id))
        with pytest.raises(InvalidGrantError):
            client.refresh_token(
                where["token_endpoint"], refresh_token=first["refresh_token"], client_id=str(party.client_id)
            )

    assert len({each["refresh_token"] for each in (first, second, third)}) == 3
    assert not accepts(server, party, third)
