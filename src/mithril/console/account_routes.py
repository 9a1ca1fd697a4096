"""A user's own page: what they have allowed which client, to withdraw, and another password.

It needs no scope: a user to whom no client gives a role that opens the console has it too. Sessions are in `routes`.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors
from mithril.approvals import service as approvals
from mithril.approvals import store as approval_store
from mithril.approvals.store import Approval
from mithril.connections import store as connections
from mithril.console import client_routes, gate, rendering, sign_in
from mithril.console.sessions import Session
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.otp import store as factors
from mithril.pages import cookies, login_sessions
from mithril.users import accounts, passwords
from mithril.users import fields as user_fields
from mithril.web import requests
from mithril.web.forms import Parameters

ACCOUNT = "/account"
CONSENT, PASSWORD = f"{ACCOUNT}/consents/{{consent_id}}", f"{ACCOUNT}/password"
ON_A_PAGE = 20
# The rules against a password that the user has, or has had.
HAD_BEFORE = {user_fields.NOT_CHANGED.rule, passwords.USED.rule}


async def show(request: Request, session: Session, _: Parameters) -> Response:
    """Show the user's account: the second factor, and the consents with what they allow."""
    database = requests.resources(request).database
    page = client_routes.page_of(request, ON_A_PAGE)
    found = await approval_store.list_approvals(database, session.user.id, clients=[], page=page)
    factor = await factors.find_factor(database, session.user.id)
    phone = (factor.phone if factor else None) or ""
    values: dict[str, Any] = {
        "consents": [await _described(request, database, consent) for consent in found.rows],
        "next_page": found.next,
        "phone": phone and login_sessions.MASK + phone[-login_sessions.SHOWN_DIGITS :],
    }
    return rendering.page(request, session, "account.html", **values)


async def _described(request: Request, database: Database, consent: Approval) -> dict[str, object]:
    """Return a consent with its scopes in words, and the names of the systems through which the client works."""
    found = await connections.list_connections(database, {}, client_id=consent.client_id, page=Page(1, ON_A_PAGE))
    names = await client_routes.consumer_names(database, found.rows)
    through = sorted(name for consumer, name in names.items() if consumer != consent.client_id)
    scopes = rendering.in_words(request, consent.scope.split())
    return {"row": consent, "scopes": scopes, "through": through}


async def show_withdrawal(request: Request, session: Session, _: Parameters) -> Response:
    """Show what the end of a consent means."""
    return await _withdrawal(request, session)


async def _withdrawal(request: Request, session: Session, *, problem: str = "", status: int = 200) -> Response:
    database, consent_id = requests.resources(request).database, client_routes.named(request, "consent_id")
    consent = await approvals.get_approval(database, consent_id, user_id=session.user.id)
    return rendering.page(request, session, "withdraw.html", status=status, consent=consent, problem=problem)


async def withdraw(request: Request, session: Session, fields: Parameters) -> Response:
    """Delete the consent, as `DELETE /api/pis/apps/{id}` does: what rests on it is revoked at once."""
    if problem := await gate.problem_of_password(request, session, fields):
        return await _withdrawal(request, session, problem=problem, status=422)
    database, consent_id = requests.resources(request).database, client_routes.named(request, "consent_id")
    actor = access.actor(request, session.caller)
    await approvals.remove(database, consent_id, user_id=session.user.id, actor=actor)
    return gate.go_to(ACCOUNT)


async def show_password_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show the form of another password."""
    return rendering.page(request, session, "password.html", problem="")


async def change_password(request: Request, session: Session, fields: Parameters) -> Response:
    """Set another password, which ends all sessions and tokens of the user; the present one is judged as ever."""
    new, problem = fields.get("new_password") or "", ""
    if new != fields.get("new_password_again"):
        problem = "not_the_same"
    problem = problem or await gate.problem_of_password(request, session, fields)
    if not problem:
        given = {"current_password": fields.get("password"), "password": new}
        actor = access.actor(request, session.caller)
        try:
            await accounts.change_password(requests.resources(request).database, session.user.id, given, actor=actor)
        except errors.ValidationFailed as refusal:
            requests.note_refusal(request.scope, refusal)
            broken = {rule.rule for invalid in refusal.invalid for rule in invalid.rules}
            problem = "password_used" if broken <= HAD_BEFORE else "password_rules"
    if problem:
        return rendering.page(request, session, "password.html", status=422, problem=problem)
    response = gate.go_to(sign_in.PATH, changed="yes")
    cookies.forget(request, response, cookies.CONSOLE_SESSION)
    return response


ROUTES: list[Route] = [
    gate.page(ACCOUNT, show),
    gate.page(CONSENT, show_withdrawal),
    gate.page(CONSENT, withdraw, method="POST"),
    gate.page(PASSWORD, show_password_form),
    gate.page(PASSWORD, change_password, method="POST"),
]
