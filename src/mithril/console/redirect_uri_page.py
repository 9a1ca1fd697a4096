"""What the console says of a new redirect URI: every problem in words, an offer, what differs, what follows.

Which redirect URIs are accepted is decided in `connections.redirect_uris` alone.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from mithril.connections import redirect_uris
from mithril.connections.redirect_uris import Policy


class Verdict(NamedTuple):
    """What is wrong with a redirect URI, by reason codes, and another one that is right, or nearer to it."""

    reasons: list[str]
    offer: str | None
    is_padded: bool
    """Whether there is a space before or after it; it is never removed silently."""


class Side(NamedTuple):
    """A redirect URI in three parts, of which the middle one is what differs from the other redirect URI."""

    before: str
    different: str
    after: str


def judge(uri: str, policy: Policy) -> Verdict:
    """Return the verdict of the rules on a redirect URI, with an offer where there is a certain one."""
    found, bare = redirect_uris.problems(uri, policy), uri.strip()
    is_padded = bare != uri
    offer = next((problem.suggestion for problem in found if problem.suggestion), None)
    if found and is_padded:
        left = redirect_uris.problems(bare, policy)
        offer = next((problem.suggestion for problem in left if problem.suggestion), None if left else bare)
    return Verdict([problem.reason for problem in found], offer, is_padded and bool(bare))


def sides(old: str, new: str) -> tuple[Side, Side]:
    """Return both redirect URIs with what differs set apart: all between their common beginning and common end."""
    most = min(len(old), len(new))
    start = next((place for place in range(most) if old[place] != new[place]), most)
    end = next((place for place in range(most - start) if old[-1 - place] != new[-1 - place]), most - start)
    return _side(old, start, end), _side(new, start, end)


def _side(uri: str, start: int, end: int) -> Side:
    last = len(uri) - end
    return Side(uri[:start], uri[start:last], uri[last:])


def differences(old: str, new: str) -> list[str]:
    """Return the names of the parts that differ: scheme, server, path, query. Both must be accepted ones."""
    before, after = urlsplit(old), urlsplit(new)
    parts = {
        "scheme": (before.scheme, after.scheme),
        "server": (before.netloc, after.netloc),
        "path": (before.path, after.path),
        "query": (before.query, after.query),
    }
    return [name for name, (one, other) in parts.items() if one != other] or ["spelling"]


def server(uri: str) -> str:
    """Return host and port of a redirect URI that may have been imported, and so may be any text."""
    try:
        return urlsplit(uri).netloc
    except ValueError:
        return uri
