"""Scopes: space-separated names, what bounds them, and what is left of them later."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from mithril import refusals
from mithril.database.database import Source
from mithril.oauth import store
from mithril.oauth.store import RegisteredClient
from mithril.validation import scopes as syntax


def joined(*scopes: Iterable[str]) -> str:
    """Return all names once, in the order in which they come."""
    return " ".join(dict.fromkeys(name for part in scopes for name in part))


def checked(scope: str) -> str:
    """Return the scope as it is stored: each name once, one space between two. Raises ScopeMalformed (rule CNV-51)."""
    text = syntax.folded(scope)
    if text is None:
        raise refusals.ScopeMalformed
    return text


class Reason(enum.StrEnum):
    """Why a name is refused, by the keys of `refusals.SCOPE_REASONS`; of several reasons the first counts."""

    UNKNOWN = "unknown"
    CLIENT_TYPE = "client_type"
    ROLE = "role"
    BROKER = "broker"


REFUSALS: Mapping[Reason, type[refusals.ScopeRefused]] = {
    Reason.UNKNOWN: refusals.ScopeNotOfClientType,
    Reason.CLIENT_TYPE: refusals.ScopeNotOfClientType,
    Reason.ROLE: refusals.ScopeNotOfRoles,
    Reason.BROKER: refusals.ScopeNotOfBroker,
}


class Bound(NamedTuple):
    """The names that something allows, and why any other is refused."""

    reason: Reason
    names: frozenset[str]


def bounds(
    client: RegisteredClient, *, roles: str | None = None, broker_scopes: Sequence[str | None] | None = None
) -> list[Bound]:
    """Return what bounds the scope of a grant, in the order of reasons.

    `roles`: what they allow, or None where they do not count, or not yet. `broker_scopes`: those of the consumers, one
    of which must allow a name, or None where consumers do not count. They bound what a BROKER client gets, which is
    used through a broker; a consumer that is no broker bounds nothing.
    """
    found = [Bound(Reason.CLIENT_TYPE, _names(client.type_scope))]
    if roles is not None:
        found.append(Bound(Reason.ROLE, _names(roles)))
    if broker_scopes is not None:
        of_brokers = [_names(scope or "") for scope in broker_scopes]
        if not of_brokers or (client.access_type == "BROKER" and all(of_brokers)):
            found.append(Bound(Reason.BROKER, frozenset().union(*of_brokers)))
    return found


async def judge(source: Source, scope: str, bounds: Sequence[Bound]) -> dict[str, Reason | None]:
    """Return for each name of `scope` why it is refused, or None where every bound allows it (rule AUT-20)."""
    found = {name: next((b.reason for b in bounds if name not in b.names), None) for name in scope.split()}
    refused = [name for name, reason in found.items() if reason is not None]
    if refused:
        found |= dict.fromkeys(await store.list_unknown_scopes(source, refused), Reason.UNKNOWN)
    return found


async def check(source: Source, scope: str, bounds: Sequence[Bound]) -> None:
    """Check that every bound allows all of `scope`. Raises one of REFUSALS, which names all that is refused and why."""
    judged = await judge(source, scope, bounds)
    refused = {name: reason for name, reason in judged.items() if reason is not None}
    for reason in Reason:
        if reason in refused.values():
            raise REFUSALS[reason](refused)


async def role_scope(source: Source, user_id: UUID, *, client_id: UUID) -> str:
    """Return all that the user's roles in the client, and their global roles, allow."""
    parts = await store.list_role_scopes(source, user_id, client_id=client_id)
    return joined(*(part.split() for part in parts))


def _names(scope: str) -> frozenset[str]:
    return frozenset(scope.split())
