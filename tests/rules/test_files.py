"""How many connections a worker may hold, by the number of files that it may have open."""

import pytest

from mithril.server import files
from mithril.server.files import BACKLOG, OTHER_FILES, Room
from mithril.settings import Settings


def test_with_enough_files_the_settings_decide() -> None:
    assert files.room(Settings(max_connections=2_000), 20_000) == Room(2_000, BACKLOG)
    assert files.room(Settings(max_connections=20), 1_024).connections == 20


@pytest.mark.parametrize("allowed", [240, 512, 1_024, 4_096, 12_000, 1_000_000])
@pytest.mark.parametrize("wanted", [1, 100, 2_000, 1_000_000])
def test_both_listeners_and_the_database_have_room_at_the_same_time(allowed: int, wanted: int) -> None:
    settings = Settings(max_connections=wanted, db_pool_size=20)
    room = files.room(settings, allowed)
    assert 1 <= room.connections <= wanted
    assert room.overflow > 0
    # Connections, those that are refused, and those that were accepted in the same turn.
    assert 2 * (room.connections + 2 * room.overflow) + settings.db_pool_size + OTHER_FILES <= allowed
