"""PostgreSQL servers that a test may break."""

from collections.abc import Iterator

import pytest

from support.clusters import Cluster, running
from support.processes import run


@pytest.fixture
def empty_cluster() -> Iterator[Cluster]:
    """A running PostgreSQL without a schema."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def cluster(empty_cluster: Cluster) -> Cluster:
    """A running PostgreSQL with the schema and no rows."""
    migrated = run("migrate", "--database-url", empty_cluster.url)
    assert migrated.returncode == 0, migrated.stderr
    return empty_cluster
