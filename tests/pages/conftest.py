"""Fixtures of a user who signs in."""

import pytest

from support.cases import Case, make_case
from support.factories import Db


@pytest.fixture
async def case(db: Db) -> Case:
    return await make_case(db)
