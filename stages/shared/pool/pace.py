"""How many attempts one provider gets at a time: fewer after it says "too many", slowly more again while it answers.

Additive increase, multiplicative decrease, as in TCP (Chiu and Jain 1989).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType


class Pace:
    """Places at one provider, `most` at first; an `async with` takes one, when the provider allows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._inside = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._cut = 0.0
        self._opens = 0.0

    @property
    def width(self) -> int:
        """Places as of now."""
        return int(self._width)

    async def __aenter__(self) -> None:
        await self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def _enter(self) -> None:
        if self._inside < self.width and not self._queue:
            self._inside += 1
        else:
            self._queue.append(future := asyncio.get_running_loop().create_future())
            try:
                await future
            except asyncio.CancelledError:
                if not future.cancelled():
                    self._leave()
                raise
        await self._wait()

    def _leave(self) -> None:
        self._inside -= 1
        self._wake()

    def limited(self, began: float, wait_s: float) -> None:
        """The provider refused an attempt that was begun at `began` (time.monotonic): half the places from now on.

        Refusals of attempts from before the last cut say nothing new. Nobody asks again within `wait_s` seconds.
        """
        now = time.monotonic()
        self._opens = max(self._opens, now + wait_s)
        if began >= self._cut:
            self._width, self._cut = max(1.0, self._width / 2), now

    def answered(self) -> None:
        """One more place for every round of answers."""
        if self._width < self._most:
            self._width = min(float(self._most), self._width + 1 / self._width)
            self._wake()

    async def _wait(self) -> None:
        try:
            if (wait_s := self._opens - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self._leave()
            raise

    def _wake(self) -> None:
        """Hand free places to those who wait, in order."""
        while self._inside < self.width and self._queue:
            future = self._queue.popleft()
            if not future.done():
                self._inside += 1
                future.set_result(None)
