"""A session that a trusted back end opens for a user: `POST /admin/users/{user_id}/tokens/access` (rule ADM-19).

The user does not prove who they are: every caller of the internal listener may ask.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from mithril import errors
from mithril.audit.events import Actor
from mithril.database.database import Database
from mithril.oauth import login, scopes
from mithril.settings import Settings
from mithril.tokens import records
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued, NewToken
from mithril.users import service as users
from mithril.users import store as user_store


async def check_user(database: Database, user_id: UUID) -> None:
    """Check that the user exists. Raises NotFound."""
    if await user_store.find_user(database, user_id) is None:
        raise errors.NotFound


async def begin(
    database: Database, settings: Settings, *, user_id: UUID, client_id: UUID | None, scope: str, actor: Actor
) -> Issued:
    """Issue an access token for user and client, and revoke their older sessions, as a login does.

    A blocked user or client gets nothing. Raises Unauthorized, Unprocessable.
    """
    client = await login.check_client(database, client_id)
    scope = scopes.checked(scope)
    await scopes.check(database, scope, scopes.bounds(client))
    session = NewToken(
        kind=TokenKind.ACCESS,
        user_id=user_id,
        client_id=client.id,
        scope=scope,
        details=Details(grant_type=GrantType.PASSWORD),
    )
    expires_at = datetime.now(UTC) + timedelta(seconds=settings.auth_access_token_lifetime)
    async with database.transaction(user_id, client.id) as transaction:
        await users.hold_unblocked(transaction, user_id)
        session = await login.bounded(transaction, settings, client, session)
        issued = await records.issue_access(transaction, session, expires_at=expires_at, actor=actor)
        await tokens.revoke_older_sessions(transaction, issued)
    return issued
