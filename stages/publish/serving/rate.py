"""How many requests a minute: a window that moves with the clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from stages.publish.serving.refusal import Refusal

WINDOW_S = 60.0


class Rate:
    """At most so many requests in any minute, all clients together: they share one key."""

    def __init__(self, a_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """None: no limit."""
        self._limit = a_minute
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self) -> None:
        """Count a request. Raises Refusal, saying when to come again, where the minute is full."""
        if self._limit is None:
            return
        now = self._clock()
        while self._taken and self._taken[0] <= now - WINDOW_S:
            self._taken.popleft()
        if len(self._taken) >= self._limit:
            raise Refusal(
                429, "rate-limited", f"more than {self._limit} requests a minute; come again later",
                code="rate_limit_exceeded", retry_after_s=self._taken[0] + WINDOW_S - now,
            )  # fmt: skip
        self._taken.append(now)
