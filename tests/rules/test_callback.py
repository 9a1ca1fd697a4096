"""The code is put first into the query of a redirect URI, and the rest does not change."""

import pytest

from mithril.oauth import callback


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://a.example", "https://a.example?code=X"),
        ("https://a.example/", "https://a.example/?code=X"),
        ("https://a.example/path?param=1", "https://a.example/path?code=X&param=1"),
        ("https://a.example/?z=1&a=2", "https://a.example/?code=X&a=2&z=1"),
        ("https://a.example/?b=2&b=1&a", "https://a.example/?code=X&a&b=2&b=1"),
        ("https://a.example/?", "https://a.example/?code=X"),
        ("https://a.example/%7Ea?q=%2f+%20", "https://a.example/%7Ea?code=X&q=%2f+%20"),
        ("https://a.example/?code=old", "https://a.example/?code=X&code=old"),
        ("http://old.example/?a=1#part", "http://old.example/?code=X&a=1#part"),
    ],
)
def test_the_code_comes_first_and_the_rest_stays(address: str, expected: str) -> None:
    assert callback.with_code(address, "X") == expected


def test_a_code_cannot_break_out_of_its_parameter() -> None:
    assert callback.with_code("https://a.example", "a&b#c d") == "https://a.example?code=a%26b%23c%20d"
