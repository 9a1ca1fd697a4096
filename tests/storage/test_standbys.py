"""Which settings of a primary let its standbys answer."""

from typing import Any

import pytest

from mithril.database import standbys
from mithril.settings import SettingsError

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = (f"postgresql://postgres@{hosts}/mithril" for hosts in ("a", "a,b", "a,b,c"))


class Primary:
    """What the check asks a primary."""

    def __init__(self, names: str, *, connected: int = 0, confirmed: str = "remote_apply") -> None:
        self.state = {"confirmed": confirmed, "names": names, "connected": connected}

    async def fetchrow(self, _: str) -> dict[str, object]:
        return self.state


@pytest.mark.parametrize(
    ("url", "primary"),
    [
        (ONE, Primary("")),
        (TWO, Primary("one")),
        (TWO, Primary("*", connected=1)),
        (TWO, Primary("*", connected=0)),
        (THREE, Primary("FIRST 2 (one, two)")),
        (THREE, Primary(' any 2 ( "one" ,two ) ')),
        (THREE, Primary("2(one, two)")),
        (THREE, Primary("FIRST 2 (*)", connected=2)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.state["names"],
)
async def test_standbys_that_all_confirm_a_commit_may_answer(url: str, primary: Any) -> None:
    await standbys.check(primary, url)


@pytest.mark.parametrize(
    ("url", "primary", "reason"),
    [
        (TWO, Primary("one", confirmed="on"), "synchronous_commit is on, not remote_apply"),
        (TWO, Primary(""), "a commit waits for 0 of 1 standbys"),
        (THREE, Primary("one"), "a commit waits for 1 of 2 standbys"),
        (THREE, Primary("ANY 1 (one, two)"), "a commit waits for 1 of 2 standbys"),
        (THREE, Primary("FIRST 2 (one, two, three)"), "a commit waits for 2 of 3 standbys"),
        (TWO, Primary("one, two"), "a commit waits for 1 of 2 standbys"),
        (TWO, Primary("*", connected=2), "a commit waits for 1 of 2 standbys"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.state["names"],
)
async def test_standbys_that_may_show_less_than_what_was_confirmed_are_refused(
    url: str, primary: Any, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        await standbys.check(primary, url)
