"""Requests that meet in the database: one waits there until the other has reached a given point."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx

from support.factories import Db

Task = asyncio.Task[httpx.Response]


async def sent(db: Db, request: Coroutine[Any, Any, httpx.Response], *, waiting: int) -> Task:
    """Send the request, and return when so many sessions, with its own, wait in the database."""
    task = asyncio.create_task(request)
    while await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < waiting:
        assert not task.done(), task.result().text
        await asyncio.sleep(0.01)
    return task
