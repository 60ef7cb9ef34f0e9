"""Asking every candidate every question, at once; what was answered before an interruption is in the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.profile.plan import Key
from stages.shared.errors import BudgetError, PipelineError, TransientError
from stages.shared.pool.candidate import Outcome, Pool, Reply
from stages.shared.progress import Progress

PATIENCE = 20
"""Failed calls in a row after which a candidate counts as out of reach."""
_KEPT = "every reply so far is kept"


async def ask_all(pool: Pool, questions: Sequence[str], progress: Progress) -> dict[Key, Reply]:
    """Every candidate's reply to every question, failures included.

    Raises TransientError naming a candidate that fails `PATIENCE` calls in a row, or all of them, BudgetError when one
    is out of credit.
    """
    asking = _Asking(pool, progress)
    calls = [(name, question) for question in questions for name in pool.candidates]
    try:
        async with asyncio.TaskGroup() as group:
            for key in calls:
                group.create_task(asking.ask(key))
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    _check_answered(pool, asking.replies)
    return asking.replies


@dataclass
class _Asking:
    """The calls under way, and who fails."""

    pool: Pool
    progress: Progress
    replies: dict[Key, Reply] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    async def ask(self, key: Key) -> None:
        """One call; raises where it shows that going on is in vain."""
        name, question = key
        reply = self.replies[key] = await self.pool.ask(name, question)
        self.progress.advance(1, note=name)
        if reply.outcome is Outcome.OUT_OF_CREDIT:
            raise BudgetError(f"{name}: its provider reports no credit left; top up and run again: {_KEPT}")
        self.failed[name] = self.failed[name] + 1 if reply.outcome.is_failure else 0
        if self.failed[name] >= PATIENCE:
            raise TransientError(f"{name}: {PATIENCE} calls in a row failed, {_way_out(reply)}")


def _check_answered(pool: Pool, replies: Mapping[Key, Reply]) -> None:
    for name in pool.candidates:
        own = [reply for (candidate, _), reply in replies.items() if candidate == name]
        if own and all(reply.outcome.is_failure for reply in own):
            raise TransientError(f"{name}: all {len(own)} calls failed, {_way_out(own[-1])}")


def _way_out(reply: Reply) -> str:
    reason = f"{reply.outcome.value} ({reply.detail})" if reply.detail else reply.outcome.value
    return f"the last one {reason}; see that it is up and run again: {_KEPT}"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to tell of: one that says what to do, where there is one."""
    known = errors.subgroup(PipelineError)
    return (known or errors).exceptions[0]
