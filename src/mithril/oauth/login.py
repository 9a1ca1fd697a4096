"""Login by password: a person's session with the page that signs them in (contract.md 3.2.3)."""

from uuid import UUID

from mithril import refusals
from mithril.database.database import Database
from mithril.oauth import scopes, store
from mithril.oauth.store import RegisteredClient
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued
from mithril.users import service as users
from mithril.users.store import User

CHANGE_PASSWORD_SCOPE = "user:change_password"
CABINET = "CABINET"


async def check_client(database: Database, client_id: UUID | None) -> RegisteredClient:
    """The client through which somebody logs in. Raises Unauthorized (rows 2 and 3; blocking must bite)."""
    client = await store.find_client(database, client_id)
    if client is None:
        raise refusals.LoginClientUnknown
    if client.is_blocked:
        raise refusals.ClientBlocked
    if GrantType.PASSWORD not in client.allowed_grant_types:
        raise refusals.LoginNotAllowed
    return client


async def identify(
    database: Database,
    settings: Settings,
    *,
    client: RegisteredClient,
    email: str,
    password: str,
    network_address: str | None,
    is_changing_password: bool,
) -> User:
    """The person who logs in (rows 4 to 8). Raises Unauthorized, Forbidden."""
    user = await users.authenticate(database, settings, email=email, password=password, network_address=network_address)
    if client.type_name == CABINET and not user.tax_id:
        raise refusals.UserNotRegistered
    if not is_changing_password:
        users.check_password_age(user, settings)
    return user


def check_scope(client: RegisteredClient, scope: str, *, is_changing_password: bool) -> None:
    """Rows 9 and 10. Raises Unprocessable, Unauthorized."""
    scopes.check_client_type(client, scope)
    if is_changing_password and scope.split() != [CHANGE_PASSWORD_SCOPE]:
        raise refusals.PasswordScopeWrong


async def start_session(
    database: Database, settings: Settings, *, user: User, client: RegisteredClient, scope: str, grant_type: GrantType
) -> Issued:
    """The session token of a person without a second factor; it ends their older ones with this client.

    Raises Unauthorized for who is blocked meanwhile.
    """
    kind = TokenKind.ACCESS if grant_type == GrantType.PASSWORD else TokenKind.CHANGE_PASSWORD
    async with database.transaction() as transaction:
        await users.hold_unblocked(transaction, user.id)
        issued = await tokens.issue(
            transaction,
            kind,
            user_id=user.id,
            client_id=client.id,
            lives_seconds=settings.auth_access_token_lifetime,
            scope=scope,
            details=Details(grant_type=grant_type),
        )
        await tokens.revoke_older_sessions(transaction, issued)
    return issued
