"""The steps of an authorization: a user lets a client act for them, and the client gets a code.

    identify_client ──► KnownClient ──► match_redirect_uri ──► RegisteredRedirect ──┐
                                                                                    ├──► bound_scope ──► GrantableScope
    identify_user ────► KnownUser ──────────────────────────────────────────────────┘                         │
                                                                                                              ▼
                                                                             the approval and the code ◄── approve

A step takes the results of the steps before it, and only the step itself makes its result (a test holds it to that),
so none can be left out and none comes too early. The ESOZ route identifies the user before it matches the redirect
URI, the pages after it; everything else is the same for both. Source: rules AUT-5 to AUT-15.
"""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import msgspec

from mithril import refusals
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.oauth import scopes, store
from mithril.oauth.scopes import Reason
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.settings import Settings
from mithril.sightings import service as sightings
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued, NewToken, Seen
from mithril.users import service as users
from mithril.users import store as user_store
from mithril.users.store import User


class KnownClient(msgspec.Struct, frozen=True):
    """A client that exists and is not blocked."""

    client: RegisteredClient


class RegisteredRedirect(msgspec.Struct, frozen=True):
    """A known client and its connection with the redirect URI of the request: from now on errors may go there."""

    client: RegisteredClient
    connection: RegisteredConnection


class KnownUser(msgspec.Struct, frozen=True):
    """A user who exists and is not blocked."""

    id: UUID


class GrantableScope(msgspec.Struct, frozen=True):
    """A scope that the client's type, the user's roles and the broker of the connection allow."""

    redirect: RegisteredRedirect
    user: KnownUser
    scope: str
    seen: Seen
    """What was seen before the roles were read: what is lost later narrows the code too."""


async def identify_client(database: Database, client_id: UUID | None) -> KnownClient:
    """Find the client that asks. Raises ClientUnknown, ClientBlocked (rules AUT-5, AUT-6)."""
    client = await store.find_client(database, client_id)
    if client is None:
        raise refusals.ClientUnknown
    if client.is_blocked:
        raise refusals.ClientBlocked
    return KnownClient(client)


async def match_redirect_uri(database: Database, known: KnownClient, redirect_uri: str) -> RegisteredRedirect:
    """Find the client's connection with exactly that redirect URI. Raises RedirectUriNotRegistered, and
    ConsumerBlocked for a connection whose consumer is blocked (rules AUT-8, VER-23).
    """
    connection = await store.find_connection_by_redirect_uri(database, known.client.id, redirect_uri)
    if connection is None:
        sightings.miss(database, known.client.id, redirect_uri)
        raise refusals.RedirectUriNotRegistered().explained(
            partial(_compare, database, known.client.id, sent=redirect_uri)
        )
    if connection.consumer_is_blocked:
        raise refusals.ConsumerBlocked
    return RegisteredRedirect(known.client, connection)


async def _compare(database: Database, client_id: UUID, *, sent: str) -> dict[str, object]:
    return compared(sent, await store.list_redirect_uris(database, client_id))


def compared(sent: str | None, registered: Sequence[str]) -> dict[str, object]:
    """Return, for the caller of a demo, the redirect URI that was sent beside the registered ones (rule CNV-53)."""
    told: dict[str, object] = {"redirect_uri": sent, "registered": registered}
    if sent and any(uri.rstrip("/") == sent.rstrip("/") for uri in registered if uri != sent):
        told["hint"] = "a slash at the end is the only difference"
    elif sent and any(uri.lower() == sent.lower() for uri in registered if uri != sent):
        told["hint"] = "upper and lower case is the only difference"
    return told


def may_omit_scope(settings: Settings, client: RegisteredClient) -> bool:
    """Return whether the client is a trusted one, which may name no scope (rule AUT-11)."""
    return str(client.id) in {trusted.lower() for trusted in settings.trusted_client_ids}


def identify_user(user: User | None) -> KnownUser:
    """Check the user who authorizes. Raises UserUnknown, UserBlocked (rule AUT-7)."""
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)
    return KnownUser(user.id)


async def bound_scope(
    database: Database, settings: Settings, *, redirect: RegisteredRedirect, user: KnownUser, scope: str | None
) -> GrantableScope:
    """Check the scope that is asked for; a trusted client that names none gets all that the roles allow.

    Raises ScopeRefused (rules AUT-9 to AUT-11, AUT-20).
    """
    client = redirect.client
    seen = client.seen(await user_store.find_last_revocation(database, user.id))
    allowed = await scopes.role_scope(database, user.id, client_id=client.id)
    wanted = scopes.checked(scope or "") or (allowed if may_omit_scope(settings, client) else "")
    if not wanted:
        raise refusals.ScopeEmpty
    broker_scopes = [redirect.connection.broker_scope]
    await scopes.check(database, wanted, scopes.bounds(client, roles=allowed, broker_scopes=broker_scopes))
    return GrantableScope(redirect, user, wanted, seen)


async def judge_scope(
    database: Database, known: KnownClient, *, user: KnownUser, scope: str, consumer_id: UUID | None
) -> dict[str, Reason | None]:
    """Say of each name why `bound_scope` would refuse it, or None where it would grant it (rule AUT-21).

    It counts what would be granted for one of the client's redirect URIs, or for that of one consumer. Raises
    ScopeMalformed, ScopeEmpty.
    """
    client, wanted = known.client, scopes.checked(scope)
    if not wanted:
        raise refusals.ScopeEmpty
    roles = await scopes.role_scope(database, user.id, client_id=client.id)
    broker_scopes = await store.list_broker_scopes(database, client.id, consumer_id=consumer_id)
    return await scopes.judge(database, wanted, scopes.bounds(client, roles=roles, broker_scopes=broker_scopes))


async def approve(
    database: Database, settings: Settings, granted: GrantableScope, *, actor: Actor, code_challenge: str | None = None
) -> Issued:
    """Record the approval, which only grows, and issue a code for the redirect URI, in one transaction.

    `code_challenge`: of PKCE, method S256 (RFC 7636 section 4.2). Raises RedirectUriNotRegistered when the connection
    was deleted or got another redirect URI in the meantime.
    """
    client, connection, user_id = granted.redirect.client, granted.redirect.connection, granted.user.id
    async with database.transaction(user_id, client.id) as transaction:
        # Where there is no approval yet there is no row to hold: two first ones would overwrite each other.
        await user_store.hold_user(transaction, user_id)
        if await store.hold_connection(transaction, connection.id, connection.redirect_uri) != connection:
            raise refusals.RedirectUriNotRegistered
        approval_id = await _grow_approval(transaction, granted, actor=actor)
        details = Details(
            grant_type=GrantType.PASSWORD,
            app_id=str(approval_id),
            redirect_uri=connection.redirect_uri,
            redirect_uri_since=connection.since,
            scope_request=granted.scope,
            code_challenge=code_challenge,
        )
        code = NewToken(
            kind=TokenKind.CODE,
            user_id=user_id,
            client_id=client.id,
            connection_id=connection.id,
            details=details,
            seen=granted.seen,
            is_bound_by_roles=True,
        )
        issued = await tokens.issue(transaction, settings, code)
    sightings.sign_in(database, client_id=client.id, connection_id=connection.id)
    return issued


async def _grow_approval(transaction: PooledConnection, granted: GrantableScope, *, actor: Actor) -> UUID:
    """Let the user's approval for the client have this scope too, and return its id."""
    client_id, user_id = granted.redirect.client.id, granted.user.id
    before = await store.find_approval(transaction, user_id, client_id=client_id)
    names, approved_before = granted.scope.split(), before.scope.split() if before else []
    if before is not None and set(names) <= set(approved_before):
        return before.id
    approved = scopes.joined(names, approved_before)
    return await store.approve(transaction, user_id, client_id=client_id, scope=approved, actor=actor)
