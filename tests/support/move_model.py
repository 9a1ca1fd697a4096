"""Which redirect URIs of a connection are good, on one page: the model with which every answer is compared.

A redirect URI that becomes good is a new `Place`; a code remembers its place, so that one that comes back is another.
"""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Place:
    """One redirect URI, from the moment at which it became good."""

    uri: str


@dataclass
class Move:
    place: Place
    ends_at: float


@dataclass
class Model:
    present: Place
    move: Move | None = None
    now: float = 0.0
    version: int = 1
    codes: dict[str, Place] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.move is not None and self.move.ends_at <= self.now

    @property
    def good(self) -> list[Place]:
        """One place or, during a transition, exactly two."""
        if self.move is None:
            return [self.present]
        return [self.move.place] if self.has_ended else [self.present, self.move.place]

    def place_of(self, uri: str) -> Place | None:
        return next((place for place in self.good if place.uri == uri), None)

    def store(self) -> None:
        """What the end of a transition has changed stays so, whatever the clock says later."""
        if self.move is not None and self.has_ended:
            self.present, self.move = self.move.place, None

    def begin(self, uri: str, seconds: float) -> bool:
        """Returns whether it is accepted."""
        if uri == self.good[0].uri:
            return False
        self.store()
        kept = self.move.place if self.move and self.move.place.uri == uri else Place(uri)
        self.move = Move(kept, self.now + seconds)
        return True

    def cancel(self) -> bool:
        if self.move is None or self.has_ended:
            return False
        self.move = None
        return True

    def set(self, uri: str) -> None:
        """An update, an import, an upsert or a revert: afterwards exactly one is good."""
        self.store()
        self.present, self.move = self.place_of(uri) or Place(uri), None

    def redeem(self, code: str, uri: str) -> bool:
        """Whether the code gives tokens: once, and only while the place that it remembers is good."""
        if self.codes[code].uri != uri or self.codes[code] not in self.good:
            return False
        del self.codes[code]
        return True
