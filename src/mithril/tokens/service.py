"""How tokens are issued, and older sessions revoked. Which scope a token may have is decided in `oauth`."""

from uuid import UUID

from mithril import refusals, security
from mithril.database.database import PooledConnection
from mithril.settings import Settings
from mithril.tokens import kinds, store
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Draft, Issued, NewToken


async def issue(
    transaction: PooledConnection, settings: Settings, new: NewToken, *, value: str | None = None
) -> Issued:
    """Issue a token, and return it with its value, which is nowhere else.

    `value`: of `security.new_secret`, where something was bound to the token before it is issued. Raises IssueDenied
    where client or user were blocked meanwhile: a block revokes what is there, and nothing may be issued after it; and
    where the family of a public client has ended.
    """
    issued = await store.add_token(
        transaction,
        new,
        value or security.new_secret(),
        lives_seconds=_lifetime_seconds(new.kind, settings),
        family_lives_seconds=settings.auth_refresh_family_lifetime,
    )
    if issued is None:
        raise refusals.IssueDenied(detail="client or user blocked meanwhile, or the family has ended")
    return issued


def draft(settings: Settings, new: NewToken) -> Draft:
    """Return a token that is to be issued, with a new value."""
    return Draft(new, security.new_secret(), _lifetime_seconds(new.kind, settings))


async def take(transaction: PooledConnection, token_id: UUID, answer: str | None) -> bool:
    """Use a token up; False for all but one of several requests at once.

    `answer`: of a token that a browser holds, the form that uses it, so that the same form may come again.
    """
    if answer is None:
        return await store.replace_token(transaction, token_id)
    return await store.answer_token(transaction, token_id, answer)


async def revoke_older_sessions(transaction: PooledConnection, issued: Issued) -> None:
    """Revoke the other active tokens of this user with this client, of the kinds that `issued` replaces."""
    replaced = kinds.REPLACED_BY.get(issued.name)
    if replaced:
        await store.revoke_others(transaction, issued, kinds=replaced)


def _lifetime_seconds(kind: TokenKind, settings: Settings) -> int:
    if kind in (*kinds.HELD_BY_BROWSERS, TokenKind.CONSOLE_PHONE):
        return kinds.LOGIN_SECONDS
    if kind is TokenKind.PASSWORD_LINK:
        return kinds.LINK_SECONDS
    if kind is TokenKind.CONSOLE:
        return kinds.CONSOLE_IDLE_SECONDS
    if kind is TokenKind.CODE:
        return settings.auth_code_grant_lifetime
    return settings.auth_refresh_token_lifetime if kind is TokenKind.REFRESH else settings.auth_access_token_lifetime
