"""The data file of `import`, `export` and the demo: which keys it has, and what each may hold.

How a file becomes this is in `reading`, what it means for the database in `service`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_LENGTH = 255  # of a short text, as in the original: an index entry does not hold any length
LAST_MOMENT = 253_402_300_799  # the end of the year 9999, in Unix seconds
THREE_CENTURIES = 10_000_000_000  # in seconds


class Id(str):
    """A UUID in its canonical form, in lower case."""

    __slots__ = ()


class Email(str):
    """An e-mail address in lower case: people are found by it in any letter case."""

    __slots__ = ()


Text = Annotated[str, Meta(max_length=MAX_LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)]
Hidden = Annotated[str, Meta(min_length=1)]
Phone = Annotated[str, Meta(pattern=r"^(\+380[0-9]{9})?\Z")]
Settings = dict[str, Any]


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One object of the file. A key that is not there leaves the row as it is, or at its default."""

    id: Id | UnsetType = UNSET


class ScopedName(Row, kw_only=True):
    """A client type or a role."""

    name: Name
    scope: str


class User(Row, kw_only=True):
    """A person, known by the id or else by the e-mail address."""

    email: Email
    password: Hidden | UnsetType = UNSET
    tax_id: Text | UnsetType = UNSET
    person_id: Text | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET
    priv_settings: Settings | UnsetType = UNSET
    is_blocked: bool | UnsetType = UNSET
    block_reason: Text | UnsetType | None = UNSET


class Client(Row, kw_only=True):
    """A client; `client_type` is a name or an id. Names are not unique, so the id is what it is known by."""

    id: Id
    name: Name
    client_type: str
    user_id: Id
    settings: Settings | UnsetType = UNSET
    priv_settings: Settings | UnsetType = UNSET
    is_blocked: bool | UnsetType = UNSET
    block_reason: Text | UnsetType | None = UNSET


class PrivSettings(msgspec.Struct):
    """What must hold of a client's `priv_settings`; other keys are free (contract.md 1.5)."""

    access_type: Literal["DIRECT", "BROKER"]
    broker_scope: str = ""


class Connection(Row, kw_only=True):
    """A connection, known by the id or else by its pair of clients."""

    client_id: Id
    consumer_id: Id
    redirect_uri: str
    secret: Hidden | UnsetType = UNSET


class GlobalUserRole(Row, kw_only=True):
    """A role that a person has everywhere; `role` is a name or an id."""

    user_id: Id
    role: str


class UserRole(GlobalUserRole, kw_only=True):
    """A role that a person has in one client."""

    client_id: Id


class Approval(Row, kw_only=True):
    """What a person has consented to for one client."""

    user_id: Id
    client_id: Id
    scope: str


class AuthenticationFactor(Row, kw_only=True):
    """A person's second factor; `factor` is a phone number or nothing yet (contract.md 1.12)."""

    user_id: Id
    type: Literal["SMS"]
    factor: Phone | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class Details(msgspec.Struct, kw_only=True):
    """Those of a token's `details` that are columns; the rest is kept as it is (contract.md 1.8.1)."""

    client_id: Id
    scope: str | UnsetType | None = UNSET
    connection_id: Id | UnsetType | None = UNSET


class Token(Row, kw_only=True):
    """A token of any kind, by its value. `expires_at` is a Unix time, `expires_in` seconds from the import."""

    value: Hidden
    name: Name
    user_id: Id
    details: Settings
    connection_id: Id | UnsetType | None = UNSET
    expires_at: Annotated[int, Meta(ge=0, le=LAST_MOMENT)] | UnsetType = UNSET
    expires_in: Annotated[int, Meta(ge=-THREE_CENTURIES, le=THREE_CENTURIES)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raises ValueError, which msgspec reports with the key."""
        if (self.expires_at is UNSET) == (self.expires_in is UNSET):
            raise ValueError("exactly one of expires_at and expires_in")


class Snapshot(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    comment: Any = msgspec.field(name="_", default=None)
    client_types: list[ScopedName] = []
    roles: list[ScopedName] = []
    users: list[User] = []
    clients: list[Client] = []
    connections: list[Connection] = []
    user_roles: list[UserRole] = []
    global_user_roles: list[GlobalUserRole] = []
    approvals: list[Approval] = []
    authentication_factors: list[AuthenticationFactor] = []
    tokens: list[Token] = []
