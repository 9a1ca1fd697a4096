"""What an import did, for the command that asked for it."""

import msgspec

MAX_LISTED = 10


class Counts(msgspec.Struct):
    """What became of the rows of one section; what `only_missing` leaves alone counts as unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


class Report(msgspec.Struct):
    """Counts by section; as text, what `mithril import` prints."""

    kinds: dict[str, Counts] = {}
    without_secret: list[str] = []
    """Ids of the new connections that came without a secret: each got one, which is shown to no user."""

    def __str__(self) -> str:
        """Return a line per section, and what is left to do."""
        lines = [
            f"{key}: {n.added} added, {n.changed} changed, {n.unchanged} unchanged" for key, n in self.kinds.items()
        ]
        if self.without_secret:
            listed = ", ".join(self.without_secret[:MAX_LISTED]) + ", ..." * (len(self.without_secret) > MAX_LISTED)
            lines.append(
                "connections that came without a secret, and need a new one before anybody can use them:"
                f" {len(self.without_secret)} ({listed})"
            )
        return "\n".join(lines) or "nothing in the file"
