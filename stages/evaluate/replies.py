"""A pool that pays for each question to a candidate once, however many methods ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from stages.shared.pool.candidate import Candidate, Pool, Reply


class RememberingPool:
    """Candidates are asked at temperature 0, so one reply stands for all; failures are forgotten and asked again.

    Every method is still charged for each of its calls.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._replies: dict[tuple[str, str], asyncio.Task[Reply]] = {}

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self._pool.candidates

    @property
    def asked(self) -> int:
        """Distinct questions put to candidates."""
        return len(self._replies)

    async def ask(self, name: str, query: str) -> Reply:
        """The remembered reply, or the pool's."""
        key = (name, query)
        task = self._replies.get(key)
        if task is None:
            task = self._replies[key] = asyncio.ensure_future(self._pool.ask(name, query))
        reply = await asyncio.shield(task)
        if reply.outcome.is_failure and self._replies.get(key) is task:
            del self._replies[key]
        return reply
