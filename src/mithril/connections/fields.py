"""The fields of a connection, for API, command line and import.

What a redirect URI must meet beyond JSON Schema is in `redirect_uris`.
"""

import re
from typing import Any

from mithril.audit.rows import Columns
from mithril.connections import redirect_uris
from mithril.errors import Rule
from mithril.settings import Settings
from mithril.validation.bodies import Body, Document
from mithril.validation.fields import Fields, refuse

ENTRY = "$.redirect_uri"
CONSTRAINTS = {"connections_consumer_id_fkey": "$.consumer_id"}
TRANSITION_SECONDS = 86_400  # where a request does not say how long it lasts
HTTPS = re.compile(r"https://.+", re.DOTALL)
NOT_HTTPS = Rule("format", "has invalid format", [r"~r/^https:\/\/.+/"])
UNCHANGED = Rule("redirect_uri", "The address is the present one; give another one.", {"reason": "unchanged"})


def _check_redirect_uri(document: Any, found: dict[str, list[Rule]], settings: Settings) -> None:  # noqa: ANN401
    """Add the rules of redirect URIs to what the schema found."""
    uri = document.get("redirect_uri") if isinstance(document, dict) else None
    if not isinstance(uri, str):
        return
    policy = redirect_uris.Policy.of(settings)
    if policy.allow_loopback and redirect_uris.is_demo_loopback(uri):
        found.pop(ENTRY, None)  # the published `^(https)://.+`, which is waived for developers on localhost
    for problem in redirect_uris.problems(uri, policy):
        rule = Rule("redirect_uri", problem.description, {"reason": problem.reason}, problem.suggestion)
        found.setdefault(ENTRY, []).append(rule)


CONNECTION_UPDATE = Body("mithril.connections", "connection_update.json", rules=_check_redirect_uri)
TRANSITION = Body("mithril.connections", "transition.json", rules=_check_redirect_uri)
REFRESH_SECRET = Body("mithril.connections", "refresh_secret.json", is_optional=True)
REDIRECT_URI_CHECK = Body("mithril.connections", "redirect_uri_check.json")
CONNECTION_PUT = Fields("mithril.connections", "connection_put.json")


def columns(given: Document, settings: Settings, *, is_new: bool) -> Columns:
    """Return the columns of a new connection or of a changed one beside its pair of clients.

    Raises ValidationFailed: for what breaks the schema or, where nothing does, the rules of redirect URIs.
    """
    found = CONNECTION_PUT.new(given) if is_new else CONNECTION_PUT.changes(given)
    if "redirect_uri" in found:
        broken = {ENTRY: [] if HTTPS.fullmatch(found["redirect_uri"]) else [NOT_HTTPS]}
        _check_redirect_uri(found, broken, settings)
        refuse((entry, rule) for entry, rules in broken.items() for rule in rules)
    return found
