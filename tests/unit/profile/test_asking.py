"""Everybody is asked everything once; who is out of reach is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stages.profile.asking import PATIENCE, ask_all
from stages.shared.errors import BudgetError, TransientError
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.progress import Progress

ANSWERED = Reply("zumako", Outcome.ANSWERED, 10, 2, 0.2)
GONE = Reply("", Outcome.UNREACHABLE, detail="connection refused")
QUESTIONS = [f"question {number} ?" for number in range(PATIENCE + 10)]


class Scripted:
    """A pool whose candidates answer as told, in the order asked; the last word is repeated."""

    def __init__(self, **scripts: list[Reply]) -> None:
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.calls: list[tuple[str, str]] = []

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return {name: Candidate(name, name, "http://127.0.0.1:9/v1", 1.0, 0.0) for name in self.scripts}

    async def ask(self, name: str, query: str) -> Reply:
        self.calls.append((name, query))
        script = self.scripts[name]
        return script.pop(0) if len(script) > 1 else script[0]


@pytest.fixture
def asked(tmp_path: Path):
    async def run(pool: Scripted, questions: list[str] = QUESTIONS):
        with Progress("profile", 1, "calls", root=tmp_path) as progress:
            return await ask_all(pool, questions, progress)

    return run


async def test_every_candidate_is_asked_every_question(asked) -> None:
    pool = Scripted(A=[ANSWERED], B=[ANSWERED])

    replies = await asked(pool)

    assert sorted(replies) == sorted(pool.calls) == sorted((name, q) for name in "AB" for q in QUESTIONS)


async def test_a_failed_call_is_a_missing_value(asked) -> None:
    replies = await asked(Scripted(A=[ANSWERED, GONE, ANSWERED]), QUESTIONS[:3])

    assert [reply.outcome.is_failure for reply in replies.values()] == [False, True, False]


async def test_a_candidate_that_fails_all_calls_is_named(asked) -> None:
    with pytest.raises(TransientError, match=r"B: all 3 calls failed, the last one unreachable \(connection refused\)"):
        await asked(Scripted(A=[ANSWERED], B=[GONE]), QUESTIONS[:3])


async def test_a_candidate_that_goes_down_stops_the_run_early(asked) -> None:
    pool = Scripted(A=[ANSWERED, ANSWERED, GONE])

    with pytest.raises(TransientError, match=f"A: {PATIENCE} calls in a row failed"):
        await asked(pool)


async def test_a_candidate_without_credit_stops_the_run(asked) -> None:
    with pytest.raises(BudgetError, match="A: its provider reports no credit left"):
        await asked(Scripted(A=[ANSWERED, Reply("", Outcome.OUT_OF_CREDIT)]))
