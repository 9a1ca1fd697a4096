"""Generated secrets and tokens: what they look like, and that nothing of them can be foretold."""

import re
import secrets
from collections import Counter

import pytest

from mithril import security

MANY = 20_000


def test_a_secret_begins_with_a_letter_or_digit_and_no_shell_takes_it_for_an_option() -> None:
    values = {security.new_secret() for _ in range(MANY)}
    assert len(values) == MANY
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{31}", value) for value in values)


def test_every_first_character_is_equally_likely() -> None:
    first = Counter(security.new_secret()[0] for _ in range(MANY))
    assert len(first) == 62
    mean = MANY / 62
    assert sum((count - mean) ** 2 / mean for count in first.values()) < 150  # chance: less than one in 10^9


def test_a_value_with_another_first_character_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["-a", "_b", "--", "c-"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(drawn))
    assert security.new_secret() == "c-"
