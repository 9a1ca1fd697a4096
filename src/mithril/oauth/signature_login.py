"""Login with a qualified electronic signature: the user signs a nonce of the client (rules SGN-43 to SGN-50).

The signature takes the place of the password and of the second factor. Who judges it is in `identity.signatures`; the
pages call these rules too.
"""

from typing import NamedTuple
from uuid import UUID

from mithril import refusals
from mithril.database.database import Database
from mithril.identity import patients
from mithril.identity.signatures import SignedContent, Verifier
from mithril.oauth import login, nonce, scopes
from mithril.oauth.login import SESSION_SCOPE, LoginToken, NextStep
from mithril.oauth.store import RegisteredClient
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import NewToken
from mithril.users import service as users
from mithril.users import store as user_store
from mithril.users.store import User

INACTIVE = "INACTIVE"
BAD_REQUEST = 400


class SignedLogin(NamedTuple):
    """A user who has signed a nonce of the client; the nonce is used up by what it opens."""

    user: User
    client: RegisteredClient
    nonce: UUID


async def identify(
    database: Database, settings: Settings, *, verifier: Verifier, signed_content: str, client_id: UUID, scope: str = ""
) -> SignedLogin:
    """Return who has signed, in the order of rules SGN-44 to SGN-48. `scope`: what the client's type must have.

    Nothing is used up. Raises SignatureRefused, Unauthorized, Unprocessable, Forbidden, ServiceUnavailable.
    """
    signed = await verifier.verify(signed_content)
    drfo = _signer(signed)
    content = signed.content if isinstance(signed.content, dict) else {}
    if "jwt" not in content:
        raise refusals.JwtMissing
    number = await nonce.find(database, settings, token=content["jwt"], client_id=client_id)
    if not isinstance(drfo, str) or not drfo.strip():
        raise refusals.SignerWithoutDrfo
    client = await login.check_client(database, client_id, grant_type=GrantType.DIGITAL_SIGNATURE)
    # The session that follows has a scope of its own.
    await scopes.check(database, scopes.joined(scope.split(), [SESSION_SCOPE] if scope else []), scopes.bounds(client))
    user = await _user(database, verifier, drfo)
    if settings.mpi_endpoint:
        await _check_patient(settings, user, drfo)
    return SignedLogin(user, client, number)


async def begin(database: Database, settings: Settings, signed: SignedLogin, *, scope: str) -> LoginToken:
    """Issue the session, use up the nonce, and revoke older sessions of the user with this client: all or nothing.

    Raises ScopeNotOfRoles, JwtInvalid, and Unauthorized where the user was blocked meanwhile.
    """
    user, client, number = signed
    session = NewToken(
        kind=TokenKind.ACCESS,
        user_id=user.id,
        client_id=client.id,
        scope=SESSION_SCOPE,
        details=Details(grant_type=GrantType.DIGITAL_SIGNATURE, scope_request=scope),
        seen=client.seen(),
    )
    session = await login.bounded(database, settings, client, session)
    async with database.transaction(user.id, client.id) as transaction:
        await users.hold_unblocked(transaction, user.id)
        await nonce.consume(transaction, number, client_id=client.id)
        issued = await tokens.issue(transaction, settings, session)
        await tokens.revoke_older_sessions(transaction, issued)
    return LoginToken(issued, NextStep.REQUEST_APPS)


def _signer(signed: SignedContent) -> object:
    """Return the tax id of the one signer. Raises SignatureRefused for another number, and for an invalid signature."""
    if len(signed.signatures) != 1:
        said = f"document must be signed by 1 signer but contains {len(signed.signatures)} signatures"
        raise refusals.SignatureRefused(said, status=BAD_REQUEST)
    (signature,) = signed.signatures
    if not signature.is_valid:
        raise refusals.SignatureRefused(signature.validation_error_message or "Digital signature is invalid.")
    return signature.signer.drfo if signature.signer else None


async def _user(database: Database, verifier: Verifier, drfo: str) -> User:
    """Return the one user with that tax id and a `person_id`. Two such users are none: which one signed is unknown."""
    found = await user_store.list_users_by_tax_id(database, drfo)
    if verifier.people is not None:
        found = [user for user in found if user.id in verifier.people]
    if not found:
        raise refusals.SignerUnknown
    user, *others = found
    users.check_not_blocked(user)
    if not user.person_id or any(other.person_id for other in others):
        raise refusals.SignerUnknown
    return user


async def _check_patient(settings: Settings, user: User, drfo: str) -> None:
    patient = await patients.find(settings, user.person_id)
    if patient is None or patient.status == INACTIVE:
        raise refusals.PersonNotFound
    if patient.tax_id != drfo:
        raise refusals.TaxIdMismatch
