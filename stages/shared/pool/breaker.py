"""A candidate that is down is left alone for a while, instead of holding up every call for the time of all attempts."""

from __future__ import annotations

import asyncio
import time

FAILURES = 5
FIRST_REST_S = 1.0
LONGEST_REST_S = 30.0
LOOK_S = 1.0
"""Those who wait look this often whether the candidate is back."""


class Breaker:
    """Opens after `FAILURES` calls in a row that failed with all their attempts; then one call at a time tries again.

    Each such try that fails doubles the rest, one that is answered closes the breaker (Nygard, Release It!, 2007). For
    `patience_s` seconds the other calls wait, so that a short outage loses none; after that they are refused.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._failed = 0
        self._rest_s = FIRST_REST_S
        self._since = self._opens = 0.0

    async def enter(self) -> bool:
        """Wait until a call may be made; False where the candidate has been down for too long."""
        while self._failed >= FAILURES:
            now = time.monotonic()
            if now >= self._opens:
                self._opens = now + self._rest_s
                return True
            if now - self._since > self._patience_s:
                return False
            await asyncio.sleep(min(self._opens - now, LOOK_S))
        return True

    @property
    def rests(self) -> bool:
        """Whether it is open, and no call may try again yet."""
        return self._failed >= FAILURES and time.monotonic() < self._opens

    def answered(self) -> None:
        """A call was answered."""
        self._failed, self._rest_s = 0, FIRST_REST_S

    def failed(self, began: float) -> None:
        """A call that was begun at `began` (time.monotonic) failed, with all its attempts."""
        self._failed += 1
        if self._failed == FAILURES:
            self._since = time.monotonic()
        elif self._failed > FAILURES and began > self._since:
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        if self._failed >= FAILURES:
            self._opens = time.monotonic() + self._rest_s
