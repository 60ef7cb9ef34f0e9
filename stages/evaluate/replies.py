"""A pool that pays for each question to a candidate once, however many methods ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from stages.shared.pool.candidate import Candidate, Pool, Reply

MOST = 1 << 16
"""Replies that are remembered: all that a chunk of questions takes."""


class RememberingPool:
    """Candidates are asked at temperature 0, so one reply stands for all; failures are forgotten and asked again.

    So are the oldest of more than `most` replies: the record behind it has them. Every method is still charged for each
    of its calls.
    """

    def __init__(self, pool: Pool, most: int = MOST) -> None:
        self._pool, self._most = pool, most
        self._replies: dict[tuple[str, str], asyncio.Task[Reply]] = {}

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self._pool.candidates

    async def ask(self, name: str, query: str) -> Reply:
        """The remembered reply, or the pool's."""
        key = (name, query)
        task = self._replies.get(key)
        if task is None:
            task = self._replies[key] = asyncio.ensure_future(self._pool.ask(name, query))
            self._forget()
        reply = await asyncio.shield(task)
        if reply.outcome.is_failure and self._replies.get(key) is task:
            del self._replies[key]
        return reply

    def _forget(self) -> None:
        while len(self._replies) > self._most and self._replies[oldest := next(iter(self._replies))].done():
            del self._replies[oldest]
