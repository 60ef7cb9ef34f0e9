"""One call for all who ask the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from stages.shared.pool.candidate import Reply


class SingleFlight:
    """Calls under way, by what they ask; a call lives on while anybody waits for it, and is cancelled with the last."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Reply]] = {}
        self._waiting: dict[str, int] = {}

    async def share(self, key: str, make: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to the call `key` that is under way, or to the one that `make` makes now."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(_run(make))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                task.cancel()


async def _run(make: Callable[[], Awaitable[Reply]]) -> Reply:
    return await make()
