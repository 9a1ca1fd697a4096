"""What a token request is, and which part of answering it a grant fills in. The steps are in `token_endpoint`."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

import msgspec

from mithril import refusals
from mithril.database.database import PooledConnection
from mithril.identifiers import parse_uuid
from mithril.oauth.redemption_store import Unchanged
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.settings import Settings
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued, NewToken, Token


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks of the token endpoint, whichever way it was sent."""

    grant_type: GrantType
    presented: str
    """The value of the code or of the refresh token."""
    redirect_uri: str | None = None
    code_verifier: str | None = None
    scope: str | None = None


class Redemption(NamedTuple):
    """A token request, and what was found for it."""

    request: TokenRequest
    client: RegisteredClient
    connection: RegisteredConnection | None
    """The connection whose secret was shown; for a public client the one through which the token was issued."""
    token: Token
    is_user_blocked: bool
    approval_id: UUID | None
    """The approval that the token rests on."""
    role_scopes: list[str]
    """The scope of each role of the user."""

    def details(self, grant_type: GrantType, *, redirect_uri: str | None = None) -> Details:
        """Return the details of a token that is issued for this one."""
        return Details(grant_type=grant_type, app_id=str(self.approval_id), redirect_uri=redirect_uri)

    def unchanged(self) -> Unchanged:
        """Return what must not have changed when the tokens are issued. Connection and approval must be known."""
        assert self.connection is not None, "it was checked"
        assert self.approval_id is not None, "it was checked"
        redirect_uri, since = self.token.details.redirect_uri, self.connection.since
        is_code, is_public = self.token.name == TokenKind.CODE, self.client.is_public
        asked = (redirect_uri, since) if is_code else (None, None)
        replaced_id = parse_uuid(self.token.details.replaces or "") if is_public else None
        return Unchanged(self.token.id, self.connection.id, self.approval_id, *asked, is_code or is_public, replaced_id)


def check_connection(redemption: Redemption) -> None:
    """Raises GrantInvalid for the secret of another connection than that through which the token was issued."""
    connection, token = redemption.connection, redemption.token
    if connection is not None and token.connection_id not in (None, connection.id):
        raise refusals.GrantInvalid(detail="issued through another connection")


class GrantedTokens(NamedTuple):
    """What a token request gives."""

    access: Issued
    refresh: Issued | None


class TokenGrant(NamedTuple):
    """The part of a grant that is its own; the functions are called in this order."""

    kind: TokenKind
    """The kind of token that is presented."""
    check: Callable[[Redemption], None]
    """Checks the token, before client, user and approval are looked at."""
    prove: Callable[[Redemption], None]
    """Checks what proves the caller, once client, user and approval are known to be good."""
    is_simple: Callable[[Redemption], bool]
    """Whether one statement can consume the token and issue what it gives (`redemption_store.redeem`)."""
    consume: Callable[[PooledConnection, Settings, Redemption], Awaitable[bool]]
    """Takes the token; False when it was taken before, and may not be taken again."""
    offer: Callable[[Redemption], list[NewToken]]
    """Returns what the token gives. Raises Unauthorized for a scope that is not granted; then nothing is consumed."""
    note: Callable[[PooledConnection, Redemption, list[Issued]], Awaitable[None]]
    """Notes what was issued."""


async def note_nothing(_: PooledConnection, __: Redemption, ___: list[Issued]) -> None:
    """Note nothing."""
