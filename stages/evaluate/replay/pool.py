"""A pool that asks only what was never asked before: to repeat an evaluation costs nothing, and needs no network.

Profiles are not replayed: to measure candidates as they are now is what a profile is for.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from stages.evaluate.replay.address import address, fingerprints
from stages.evaluate.replay.record import Record, Recorded, open_record
from stages.evaluate.replies import RememberingPool
from stages.shared.entry import fresh_since
from stages.shared.params import Params
from stages.shared.pool.candidate import Candidate, Pool, Reply
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import FOLDER, Place, finish_ledger, open_ledger
from stages.shared.pool.setting import setting
from stages.shared.progress import say
from stages.shared.workspace import Workspace

UNRECORDED = 1 << 16
"""Answers that the ledger has to find again, at most: those that a power cut kept out of the record."""


@asynccontextmanager
async def replaying(params: Params, workspace: Workspace, candidates: Sequence[Candidate]) -> AsyncIterator[Pool]:
    """The candidates, each asked a question once for all evaluations, and once for all methods of this one.

    Says at the end how much of it was replayed.
    """
    since, prints, limits = fresh_since(), fingerprints(params, candidates), params.pool.limits
    place = Place(workspace.runs(FOLDER), "evaluate", setting(params.pool, params.world), since=since or 0.0)
    with open_record(workspace.replies) as record, open_ledger(place, limits.budget, most=UNRECORDED) as ledger:
        async with HttpPool(candidates, limits, ledger) as http:
            pool = RecordedPool(http, record, params, prints)
            if since is not None:
                await pool.renew(since)
            yield RememberingPool(pool)
            say(f"evaluate: {pool.tally}.")
    say(f"evaluate: {finish_ledger(place)}")


class CheckedPool(Pool, Protocol):
    """A pool that can be looked at before anything is paid for."""

    async def check(self) -> None:
        """Raises when an endpoint does not answer or takes no key."""
        ...


@dataclass
class Tally:
    """What came from the record, and what was asked."""

    asked: int = 0
    replayed: int = 0
    repriced: int = 0
    """Of `replayed`: recorded at another price, and counted at today's."""
    oldest: float = float("inf")
    began: float = field(default_factory=time.time)
    """Seconds since 1970: what was recorded later counts as asked, though it is looked up again."""

    def saw(self, found: Recorded, candidate: Candidate) -> None:
        """Count a reply from the record."""
        if found.asked_at >= self.began:
            return
        self.replayed += 1
        self.repriced += (found.price, found.prompt_price) != (candidate.price, candidate.prompt_price)
        self.oldest = min(self.oldest, found.asked_at)

    def __str__(self) -> str:
        """In words: nobody is to take recorded replies for new ones."""
        if not self.replayed:
            return f"{self.asked} replies, all asked for now"
        since = datetime.datetime.fromtimestamp(self.oldest).date().isoformat()
        prices = f", {self.repriced} of these at other prices, now counted at today's" if self.repriced else ""
        shares = f"{self.replayed} of {self.asked + self.replayed} replies are recorded ones"
        return f"{shares}, the oldest of {since}{prices}; `pointsman run --fresh` asks again"


class RecordedPool:
    """Looks into the record first. The pool behind it is checked before the first call that has to be made.

    A failed call is not recorded: the next one asks again.
    """

    def __init__(self, pool: CheckedPool, record: Record, params: Params, prints: Mapping[str, str]) -> None:
        self._pool, self._record, self._params, self._prints = pool, record, params, prints
        self._checked: asyncio.Task[None] | None = None
        self.tally = Tally()

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self._pool.candidates

    async def ask(self, name: str, query: str) -> Reply:
        """The recorded reply, or the pool's, recorded before it is given. Raises what the pool and its check do."""
        candidate = self.candidates.get(name)
        if candidate is None:
            return await self._pool.ask(name, query)
        place = address(self._prints[name], self._params, query)
        found = self._record.find(place)
        if found is not None:
            self.tally.saw(found, candidate)
            return found.reply
        await self._check()
        reply = await self._pool.ask(name, query)
        if reply.outcome.is_failure:
            return reply
        self.tally.asked += 1
        return self._record.keep(place, self._prints[name], candidate, query, reply).reply

    async def renew(self, before: float) -> None:
        """Forget what these candidates were asked before a time, once it is sure that they can be asked again."""
        await self._check()
        self._record.forget(self._prints.values(), before)

    async def _check(self) -> None:
        self._checked = self._checked or asyncio.ensure_future(self._pool.check())
        await asyncio.shield(self._checked)
