"""What an import did, for the command that asked for it."""

import msgspec

MAX_LISTED = 10


class Counts(msgspec.Struct):
    """What became of the objects of one kind; what `only_missing` leaves alone counts as unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


class Report(msgspec.Struct):
    """Counts by the keys of the file; as text, what `mithril import` prints."""

    kinds: dict[str, Counts] = {}
    without_secret: list[str] = []
    """Ids of the new connections that came without a secret: each has one now that nobody knows."""

    def __str__(self) -> str:
        """One line per kind, and what is left to do."""
        lines = [
            f"{key}: {counts.added} added, {counts.changed} changed, {counts.unchanged} unchanged"
            for key, counts in self.kinds.items()
        ]
        if self.without_secret:
            listed = ", ".join(self.without_secret[:MAX_LISTED])
            more = ", ..." if len(self.without_secret) > MAX_LISTED else ""
            lines.append(
                "connections that came without a secret, and need a new one before anybody can use them:"
                f" {len(self.without_secret)} ({listed}{more})"
            )
        return "\n".join(lines) or "nothing in the file"
