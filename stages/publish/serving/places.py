"""How many questions are answered at once, and how many wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stages.publish.serving.refusal import Refusal

RETRY_S = 1.0


class Places:
    """So many questions at once; as many as `queue` wait for their turn, first come, first served."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._queue = queue
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one place for the block. Raises Refusal at once where the queue is full."""
        if self._free.locked() and self.waiting >= self._queue:
            raise Refusal(
                429, "over-capacity", f"{self.waiting} questions wait already; come again later",
                code="rate_limit_exceeded", retry_after_s=RETRY_S,
            )  # fmt: skip
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._free.release()
