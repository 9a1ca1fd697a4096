"""PostgreSQL servers that a test may break."""

import asyncio
from collections.abc import Iterator

import pytest

from support.clusters import Cluster, folders, running, url_of
from support.processes import run
from support.writing import replicate_synchronously


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


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary with the schema, and its synchronous standby."""
    with folders() as folder:
        primary, standby = Cluster(folder / "one"), Cluster(folder / "two", hot_standby="on")
        primary.initialise()
        primary.start()
        try:
            standby.copy_of(primary)
            standby.start()
            asyncio.run(replicate_synchronously(primary))
            migrated = run("migrate", "--database-url", url_of(primary, standby))
            assert migrated.returncode == 0, migrated.stderr
            yield primary, standby
        finally:
            primary.stop("immediate")
            standby.stop("immediate")
