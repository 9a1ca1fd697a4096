"""What a token is good for, on one page: the model with which every answer of the server is compared.

Each change says what the client type, the roles and the approval give before and after it. What they give no longer,
each token loses that they bound, for good.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from support import factories

READ, WRITE, REFRESH, DELETE = "connection:read", "connection:write", "connection:refresh_secret", "connection:delete"
SCOPES = (READ, WRITE, REFRESH, DELETE)
ADMINISTRATIVE = "NHS"
# The method, the end of the path, and the required scope.
ACTIONS = {
    ("GET", ""): READ,
    ("PATCH", ""): WRITE,
    ("PATCH", "/actions/refresh_secret"): REFRESH,
    ("DELETE", ""): DELETE,
}
Scope = frozenset[str]
NOTHING: Scope = frozenset()


@dataclass(eq=False)
class User:
    id: UUID
    email: str
    is_blocked: bool = False


@dataclass(eq=False)
class Client:
    made: factories.Client
    type: str
    access_type: str
    broker_scope: Scope | None
    is_blocked: bool = False


@dataclass(eq=False)
class Link:
    """A connection."""

    made: factories.Connection
    client: Client
    consumer: Client
    redirect_uri: str
    is_deleted: bool = False

    @property
    def has_api_key(self) -> bool:
        return not self.is_deleted and self.client is self.consumer


@dataclass(eq=False)
class Role:
    id: UUID
    name: str
    scope: Scope


@dataclass(eq=False)
class Token:
    """A token or a code; `left` is what is left of its scope, or of the scope of what it gives."""

    value: str
    user: User
    client: Client
    left: Scope
    kind: str = "access_token"
    link: Link | None = None
    family: UUID = field(default_factory=uuid4)
    redirect_uri: str | None = None
    is_bound_by_roles: bool = True
    is_bound_by_approval: bool = True
    is_expired: bool = False
    is_revoked: bool = False
    is_used: bool = False

    def followed_by(self, value: str, kind: str, left: Scope, link: Link | None) -> "Token":
        """What is issued for a code or a refresh token: bound by all three."""
        return Token(value, self.user, self.client, left, kind, link, self.family)


class Model:
    """Who is there, what is given to whom, and which tokens there are."""

    def __init__(self, types: dict[str, Scope]) -> None:
        self.types = types
        self.held: list[tuple[User, Client | None, Role]] = []
        self.approved: dict[tuple[User, Client], Scope] = {}
        self.tokens: list[Token] = []

    # Changes

    def roles(self, user: User, client: Client) -> Scope:
        given = [role.scope for who, where, role in self.held if who is user and where in (client, None)]
        return NOTHING.union(*given)

    def bounds(self, token: Token) -> tuple[Scope, Scope, Scope]:
        approved = self.approved.get((token.user, token.client), NOTHING)
        return (
            self.types[token.client.type],
            self.roles(token.user, token.client) if token.is_bound_by_roles else NOTHING,
            approved if token.is_bound_by_approval else NOTHING,
        )

    @contextmanager
    def change(self) -> Iterator[None]:
        before = [(token, self.bounds(token)) for token in self.tokens]
        yield
        for token, bounds in before:
            for was, now in zip(bounds, self.bounds(token), strict=True):
                token.left -= was - now

    def revoke(self, concerns: Callable[[Token], bool]) -> None:
        for token in filter(concerns, self.tokens):
            token.is_revoked = True

    # Questions

    def is_unknown(self, token: Token) -> bool:
        return token.link is not None and token.link.is_deleted

    def is_active(self, token: Token) -> bool:
        """Whether it is good by itself, for any caller."""
        consumer_is_blocked = token.link is not None and token.link.consumer.is_blocked
        is_blocked = token.user.is_blocked or token.client.is_blocked or consumer_is_blocked
        is_over = token.is_expired or token.is_revoked or not token.left
        return not (is_blocked or is_over or self.is_unknown(token))

    def verified(self, token: Token | None, key: Link | None) -> int:
        """The status of verify and, but for 401 in place of other refusals, of forward-auth and the API."""
        if token is None or token.kind != "access_token" or self.is_unknown(token):
            return 404
        if not self.is_active(token):
            return 401
        return self.brokered(token, key) if token.client.access_type == "BROKER" else 200

    def brokered(self, token: Token, key: Link | None) -> int:
        if key is None or not key.has_api_key or not key.client.broker_scope:
            return 422
        if key.client.is_blocked:
            return 401
        return 200 if token.link is None or token.link.consumer is key.client else 422

    def asked(self, action: tuple[str, str], token: Token | None, key: Link | None, named: Client, link: Link) -> int:
        """The status of a request for a connection below `/api`."""
        if token is None or self.verified(token, key) != 200:
            return 401
        wanted = ACTIONS[action]
        is_brokered = token.client.access_type == "BROKER"
        if wanted not in token.left or (is_brokered and key and wanted not in (key.client.broker_scope or ())):
            return 403
        if token.client.type != ADMINISTRATIVE and named is not token.client:
            return 403
        if link.client is not named or link.is_deleted:
            return 404
        return self.refreshed_secret(key, link) if wanted == REFRESH and link.consumer is not link.client else 200

    def refreshed_secret(self, key: Link | None, link: Link) -> int:
        """Only the consumer may refresh the secret."""
        if key is None or not key.has_api_key or key.client.is_blocked:
            return 401
        return 200 if key.client is link.consumer else 403

    def is_authorized(self, user: User, link: Link, scope: Scope) -> bool:
        is_blocked = user.is_blocked or link.client.is_blocked or link.consumer.is_blocked
        allowed = self.types[link.client.type] & self.roles(user, link.client)
        if link.client.access_type == "BROKER" and link.consumer.broker_scope:
            allowed &= link.consumer.broker_scope
        return not link.is_deleted and not is_blocked and scope <= allowed

    def is_granted(self, token: Token, link: Link) -> bool:
        """Whether the token endpoint takes it, used or not, with the secret of that connection."""
        is_blocked = link.client.is_blocked or link.consumer.is_blocked
        is_own = token.client is link.client and token.link in (link, None) and not link.is_deleted
        is_there = token.redirect_uri in (link.redirect_uri, None)
        has_approval = (token.user, token.client) in self.approved
        return is_own and is_there and has_approval and not is_blocked and self.is_active(token)

    def left_for_refresh(self, token: Token) -> Scope:
        return token.left & self.types[token.client.type] & self.roles(token.user, token.client)

    def approve(self, user: User, client: Client, scope: Scope) -> None:
        self.approved[user, client] = self.approved.get((user, client), NOTHING) | scope

    def end_family(self, family: UUID) -> None:
        for token in self.tokens:
            token.is_expired |= token.family == family and token.kind != "authorization_code"
