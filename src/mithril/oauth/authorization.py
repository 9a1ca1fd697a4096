"""A person lets a client act for them: an approval, and a code for the client's address (contract.md 3.2.1)."""

from typing import NamedTuple
from uuid import UUID

from mithril import refusals
from mithril.audit.events import Actor
from mithril.database.database import Database
from mithril.oauth import scopes, store
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued
from mithril.users import service as users
from mithril.users import store as user_store


class Asked(NamedTuple):
    """A request for authorization whose client and address are known to be right."""

    client: RegisteredClient
    connection: RegisteredConnection


async def check_client(database: Database, client_id: UUID) -> RegisteredClient:
    """The client that asks. Raises Unauthorized (rows 4 and 5)."""
    client = await store.find_client(database, client_id)
    if client is None:
        raise refusals.ClientUnknown
    if client.is_blocked:
        raise refusals.ClientBlocked
    return client


async def check_address(database: Database, client: RegisteredClient, redirect_uri: str) -> Asked:
    """The client's connection with exactly that address (row 7). Raises Unauthorized."""
    connection = await store.find_connection_by_redirect_uri(database, client.id, redirect_uri)
    if connection is None:
        raise refusals.RedirectUriNotRegistered
    return Asked(client, connection)


async def check_user(database: Database, user_id: UUID) -> None:
    """Raises Unauthorized (row 6)."""
    user = await user_store.find_user(database, user_id)
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)


async def granted_scope(
    database: Database, settings: Settings, *, client: RegisteredClient, user_id: UUID, scope: str | None
) -> str:
    """What may be approved: `scope`, or for a trusted client that names none all that the roles allow.

    Raises Unprocessable (rows 8 to 10).
    """
    allowed = await scopes.role_scope(database, user_id, client_id=client.id)
    is_trusted = str(client.id) in {trusted.lower() for trusted in settings.trusted_client_ids}
    wanted = scopes.joined((scope or "").split()) or (allowed if is_trusted else "")
    if not wanted:
        raise refusals.ScopeEmpty
    scopes.check_client_type(client, wanted)
    scopes.check_roles(allowed, wanted)
    return wanted


async def approve(
    database: Database,
    settings: Settings,
    *,
    asked: Asked,
    user_id: UUID,
    scope: str,
    actor: Actor,
    code_challenge: str | None = None,
) -> Issued:
    """Records the approval, which only grows, and issues a code for the asked address, in one transaction.

    `scope` must come from `granted_scope`. `code_challenge`: of PKCE, method S256 (RFC 7636 section 4.2).
    Raises Unauthorized when the connection was deleted or got another address in the meantime.
    """
    details = Details(
        grant_type=GrantType.PASSWORD,
        redirect_uri=asked.connection.redirect_uri,
        scope_request=scope,
        code_challenge=code_challenge,
    )
    async with database.transaction() as transaction:
        # Where there is no approval yet there is no row to hold: two first ones would overwrite each other.
        await store.hold_user(transaction, user_id)
        if await store.hold_connection(transaction, asked.connection.id) != asked.connection:
            raise refusals.RedirectUriNotRegistered
        before = await store.find_approval(transaction, user_id, client_id=asked.client.id)
        approved = scopes.joined(scope.split(), before.scope.split() if before else ())
        if before is None or not set(scope.split()) <= set(before.scope.split()):
            await store.approve(transaction, user_id, client_id=asked.client.id, scope=approved, actor=actor)
        return await tokens.issue(
            transaction,
            TokenKind.CODE,
            user_id=user_id,
            client_id=asked.client.id,
            connection_id=asked.connection.id,
            lives_seconds=settings.auth_code_grant_lifetime,
            details=details,
        )
