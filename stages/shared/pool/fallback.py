"""Who answers in place of a candidate that is down: the cheapest way around it, and every reroute written down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from stages.shared.params import Fallback, PoolLimits, RerouteUse
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import Ledger

_LOG = logging.getLogger(__name__)
Graph = Mapping[str, Sequence[str]]
"""Candidate -> those who may answer in its place."""


def open_pool(candidates: Sequence[Candidate], limits: PoolLimits, ledger: Ledger | None, use: RerouteUse) -> HttpPool:
    """A pool that reroutes where the parameters allow it for this use, a plain one otherwise. Raises as `HttpPool`."""
    graph = _among([item.name for item in candidates], limits.fallback) if use in limits.fallback.use else {}
    return ReroutingPool(candidates, limits, ledger, graph) if graph else HttpPool(candidates, limits, ledger)


def within_reach(names: Collection[str], fallback: Fallback, use: RerouteUse) -> set[str]:
    """These candidates, and all who may come to answer in place of one of them."""
    found, graph = set(names), fallback.graph if use in fallback.use else {}
    todo = list(found)
    while todo:
        for name in graph.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def _among(names: Collection[str], fallback: Fallback) -> dict[str, list[str]]:
    """The part of the graph that a pool with these candidates can use."""
    kept = {name: [other for other in fallback.graph.get(name, ()) if other in names] for name in names}
    return {name: others for name, others in kept.items() if others}


class ReroutingPool(HttpPool):
    """An `HttpPool` that asks others where a call failed with all its attempts.

    Of those who may answer instead, the one is asked whose answer may cost least; where that fails too, those who may
    answer in its place are added, so that what is found is the cheapest path around all that are down. Nobody waits for
    a candidate that has others. The deadline of a call counts from the first candidate on. Each reroute is in the log
    and in the ledger, and each answer has the price of the candidate that gave it; where all fail, so does the call.
    """

    def __init__(
        self, candidates: Sequence[Candidate], limits: PoolLimits, ledger: Ledger | None, graph: Graph
    ) -> None:
        """Raises as `HttpPool`."""
        super().__init__(candidates, limits, ledger, replaceable=graph.keys())
        self._graph = graph

    async def ask(self, name: str, query: str) -> Reply:
        """Ask a candidate, and others where it fails: `Reply.instead` says who answered. Raises as `HttpPool.ask`."""
        began, first = time.monotonic(), await super().ask(name, query)
        if not first.outcome.is_failure:
            return first
        lost = [(self.candidates[name], first)]
        for other in self._way_around(name, len(query.encode())):
            reply = await self._ask_within(began + self._limits.deadline_s, other, query)
            if not reply.outcome.is_failure:
                self._tell(name, other, first.outcome)
                return replace(reply, instead=self.candidates[other], lost=tuple(lost))
            lost.append((self.candidates[other], reply))
        tried = "".join(f"; {other.name}: {reply.outcome}" for other, reply in lost[1:])
        return replace(first, lost=tuple(lost[1:]), detail=first.detail + tried)

    def _way_around(self, name: str, length: int) -> Iterator[str]:
        """Whom to ask next, as long as one after the other fails: who is up first, and of those the cheapest."""
        seen, waiting = {name}, list(self._graph.get(name, ()))
        while waiting := [other for other in waiting if other not in seen]:
            best = min(waiting, key=lambda other: (self.is_down(other), self.most(other, length), other))
            seen.add(best)
            yield best
            waiting += self._graph.get(best, ())

    async def _ask_within(self, deadline: float, name: str, query: str) -> Reply:
        """`deadline` is on the clock of time.monotonic."""
        left_s = deadline - time.monotonic()
        if left_s > 0:
            try:
                async with asyncio.timeout(left_s):
                    return await super().ask(name, query)
            except TimeoutError:
                pass
        detail = f"no reply within {self._limits.deadline_s:g} s, those asked before included"
        return Reply("", Outcome.TIMED_OUT, attempts=int(left_s > 0), detail=detail)

    def _tell(self, asked: str, answered: str, why: Outcome) -> None:
        _LOG.warning("%s: %s; %s answered in its place", asked, why, answered)
        if self._ledger is not None:
            self._ledger.rerouted(asked, answered, why)
