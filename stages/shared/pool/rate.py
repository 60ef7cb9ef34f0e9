"""How many requests and tokens a minute a provider, or one candidate, is sent at most.

Evenly: a minute's requests are a minute's length apart, not sent at once with a wait after (the generic cell rate
algorithm, ITU-T I.371, without its burst). Beside `Pace`, which knows how many are under way and nothing of time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType

MINUTE_S = 60.0
GUESS = 256
"""Tokens of a call, until answers say how many there are."""
WEIGHT = 0.1
"""Of the latest answer in what is usual."""
BACK = 0.01
"""Share of the limit that an answer brings back after a refusal."""
LEAST = 1 / 64
"""Share of the limit that is always left."""
LOOK_S = 1.0
"""Who waits looks this often whether answers turned out shorter than was thought."""


class Rate:
    """The next moment at which a request may be sent; an `async with` waits for it, first come, first served."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """At most so many a minute; None sets no limit."""
        self._request_s = MINUTE_S / requests if requests else 0.0
        self._token_s = MINUTE_S / tokens if tokens else 0.0
        self._usual = float(GUESS)
        self._share = 1.0
        self._next = self._cut = 0.0
        self._turn = asyncio.Lock()

    @property
    def share(self) -> float:
        """Of the limit, as of now: less than 1 after a refusal."""
        return self._share

    async def __aenter__(self) -> None:
        await self._turn.acquire()
        try:
            wait_s = self._next - time.monotonic()
            while wait_s > 0:
                await asyncio.sleep(min(wait_s, LOOK_S))
                wait_s = self._next - time.monotonic()
        except asyncio.CancelledError:
            self._turn.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.release()

    def take(self) -> float:
        """A request is sent now; returns the seconds that it keeps the next one away, by what is usual."""
        apart_s = self._apart_s(self._usual)
        self._next = max(self._next, time.monotonic()) + apart_s
        return apart_s

    def used(self, tokens: int, apart_s: float) -> None:
        """The request that was to keep the next `apart_s` away took so many tokens."""
        self._next += self._apart_s(tokens) - apart_s
        self._usual += WEIGHT * (tokens - self._usual)

    def limited(self, began: float) -> None:
        """An attempt begun at `began` (time.monotonic) was refused all the same: half as many from now on."""
        if began >= self._cut:
            self._share, self._cut = max(LEAST, self._share / 2), time.monotonic()

    def answered(self) -> None:
        """A little more again."""
        self._share = min(1.0, self._share + BACK)

    def _apart_s(self, tokens: float) -> float:
        return max(self._request_s, tokens * self._token_s) / self._share


@asynccontextmanager
async def turn(rates: Sequence[Rate], places: asyncio.Semaphore) -> AsyncIterator[Callable[[int], None]]:
    """One of the places, taken when every rate lets a request go; yields what is to be told how many tokens it took.

    Nobody holds a place while waiting for a rate, and the time of a request is the one at which it has a place.
    """
    async with AsyncExitStack() as waiting:
        for rate in rates:
            await waiting.enter_async_context(rate)
        await places.acquire()
        apart_s = [rate.take() for rate in rates]

    def used(tokens: int) -> None:
        """The request took so many."""
        for rate, each in zip(rates, apart_s, strict=True):
            rate.used(tokens, each)

    try:
        yield used
    finally:
        places.release()
