"""The ledger: every attempt before and after, budgets, and answers that are paid for once."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.shared.errors import BudgetError, ConfigurationError, ConflictError, IntegrityError
from stages.shared.params import Budget
from stages.shared.pool import ledger
from stages.shared.pool.account import BUDGET
from stages.shared.pool.attempt import Attempt, again
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.ledger import Ledger, Place, finish_ledger, open_ledger
from stages.shared.pool.money import tariff

PRICES = tariff(Candidate("Arlix", "m", "http://h/v1", price=2.0, prompt_price=0.5))
MOST = PRICES.most(100, 50)
ANSWER = Attempt(Reply("belane", Outcome.ANSWERED, 20, 5, latency_s=0.1))
COST = 20 * 500_000 + 5 * 2_000_000
"""Of ANSWER in 1e-12 USD, by hand: 20 x 0.5 and 5 x 2 millionths of a dollar."""
USD = 1e-12


def place(folder: Path, stage: str = "profile", setting: str = "s", run: str = "run-1") -> Place:
    return Place(folder, stage, setting, run)


async def pay(ledger: Ledger, call: str, attempt: Attempt | None = ANSWER, candidate: str = "Arlix") -> None:
    async with ledger.attempt(candidate, call, f"key of {call}", MOST, PRICES) as hold:
        if attempt is not None:
            hold.settle(attempt, attempt.reply)


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


async def test_an_attempt_is_written_down_before_it_is_made_and_after_it_ended(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget()) as ledger:
        async with ledger.attempt("Arlix", "call", "key", MOST, PRICES) as hold:
            (before,) = rows(tmp_path)
            hold.settle(ANSWER, ANSWER.reply)
            assert len(rows(tmp_path)) == 1
    _, after = rows(tmp_path)
    assert (before["candidate"], before["call"], before["most"], before["run"]) == ("Arlix", "call", MOST, "run-1")
    assert (after["end"], after["cost"]) == (before["begin"], COST)


async def test_what_was_paid_for_is_known_after_a_crash(tmp_path: Path) -> None:
    crashed = Ledger(place(tmp_path), Budget())
    await pay(crashed, "answered")
    await pay(crashed, "failed", again(Outcome.RATE_LIMITED, "HTTP 429"))
    await pay(crashed, "broken off", None)
    with open_ledger(place(tmp_path), Budget()) as ledger:
        assert ledger.answer("answered") == ANSWER.reply
        assert ledger.answer("failed") is None
        assert ledger.answer("broken off") is None
        assert (ledger.spent, ledger.held, ledger.reused) == (COST, MOST, 1)
    crashed.close()


async def test_who_keeps_answers_himself_finds_the_newest_here_and_every_cost(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget(), most=1) as ledger:
        await pay(ledger, "first")
        await pay(ledger, "second")
        assert (ledger.answer("first"), ledger.answer("second")) == (None, ANSWER.reply)
        assert ledger.spent == 2 * COST
    with open_ledger(place(tmp_path), Budget()) as again:
        assert again.answer("first") == ANSWER.reply, "it is in the journal"


async def test_a_call_whose_answer_never_arrived_is_told_by_the_same_key(tmp_path: Path) -> None:
    crashed = Ledger(place(tmp_path), Budget())
    await pay(crashed, "answered")
    await pay(crashed, "refused", again(Outcome.RATE_LIMITED, "HTTP 429"))
    for attempt in (None, again(Outcome.RATE_LIMITED, "HTTP 429")):
        async with crashed.attempt("Arlix", "broken off", "its key", MOST, PRICES) as hold:
            if attempt is not None:
                hold.settle(attempt, attempt.reply)
    with open_ledger(place(tmp_path), Budget()) as ledger:
        known = [ledger.key(call) for call in ("answered", "refused", "broken off", "new")]
    assert known == [None, None, "its key", None]
    crashed.close()


async def test_another_setting_another_stage_and_the_run_after_a_finished_one_pay_anew(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget()) as ledger:
        await pay(ledger, "call")
    finish_ledger(place(tmp_path))
    for other in (place(tmp_path), place(tmp_path, setting="t"), place(tmp_path, stage="train")):
        with open_ledger(other, Budget()) as ledger:
            assert (ledger.answer("call"), ledger.spent) == (None, 0)


def test_a_stage_that_paid_for_nothing_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        assert finish_ledger(place(tmp_path)) == "0 USD paid to candidates"
    assert list(tmp_path.glob("*.jsonl")) == []


def test_who_wants_the_journal_alone_has_it_alone(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget(), alone=True):
        with pytest.raises(ConflictError, match="wait for it"), open_ledger(place(tmp_path), Budget(), alone=True):
            pass
        finish_ledger(place(tmp_path))
    with open_ledger(place(tmp_path), Budget(), alone=True):
        pass


def test_a_ledger_that_outlives_its_event_loop_syncs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger, "SYNC_S", 0.0)
    with open_ledger(place(tmp_path), Budget()) as opened:

        async def scene() -> None:
            await pay(opened, "a")
            await asyncio.get_running_loop().shutdown_default_executor()
            await asyncio.sleep(0.01)

        asyncio.run(scene())
    assert caplog.text == ""


async def test_an_answer_from_before_a_fresh_start_is_not_used(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget()) as ledger:
        await pay(ledger, "old")
    began = time.time() + 0.01
    await asyncio.sleep(0.02)
    with open_ledger(replace(place(tmp_path), since=began), Budget()) as ledger:
        await pay(ledger, "new")
        assert ledger.answer("old") is None
        assert ledger.answer("new") == ANSWER.reply
        assert ledger.spent == 2 * COST


async def test_a_clock_that_is_set_back_makes_no_answer_be_paid_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, real = time.time(), time.time
    fresh = replace(place(tmp_path), since=began)
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    with open_ledger(fresh, Budget()) as ledger:
        await pay(ledger, "new")
    with open_ledger(fresh, Budget()) as ledger:
        assert ledger.answer("new") == ANSWER.reply
    with open_ledger(replace(fresh, since=math.inf), Budget()) as ledger:
        await pay(ledger, "served")
        assert ledger.answer("served") is None
    assert "inf" not in str(rows(tmp_path))


async def test_what_an_attempt_cost_is_held_back_where_nobody_knows(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget()) as ledger:
        await pay(ledger, "lost", again(Outcome.TIMED_OUT, "no reply", certain=False))
        await pay(ledger, "refused", again(Outcome.UNREACHABLE, "HTTP 500"))
        assert (ledger.spent, ledger.held) == (0, MOST)
        assert "at most" in ledger.told()


@pytest.mark.parametrize("scope", ["run", "stage", "candidate", "day"])
async def test_a_call_that_may_not_fit_is_not_made(tmp_path: Path, scope: str) -> None:
    budget = Budget.model_validate({scope: (2 * MOST + COST) * USD})
    with open_ledger(place(tmp_path), budget) as ledger:
        await pay(ledger, "one")
        await pay(ledger, "lost", None)
        await pay(ledger, "two")
        with pytest.raises(BudgetError, match=rf"budget\.{scope} .* is spent, .* raise it and run again"):
            await pay(ledger, "three")
        assert ledger.spent == 2 * COST
    assert len(rows(tmp_path)) == 5


async def test_what_a_run_was_given_holds_where_the_parameters_allow_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BUDGET, str((MOST + COST / 2) * USD))
    with open_ledger(place(tmp_path), Budget(run=100 * MOST * USD)) as ledger:
        await pay(ledger, "one")
        with pytest.raises(BudgetError, match=r"budget\.run \(or --budget\) is .* raise it and run again"):
            await pay(ledger, "two")
    with open_ledger(place(tmp_path, run="run-2"), Budget()) as ledger:
        assert ledger.answer("one") is not None
        await pay(ledger, "two")
    monkeypatch.setenv(BUDGET, "much")
    with pytest.raises(ConfigurationError, match="'much' is no amount"):
        Ledger(place(tmp_path), Budget())


async def test_each_candidate_has_a_budget_of_its_own(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget(candidate=MOST * USD)) as ledger:
        await pay(ledger, "one", candidate="Arlix")
        await pay(ledger, "one", candidate="Bomon")
        with pytest.raises(BudgetError, match="for Arlix"):
            await pay(ledger, "two", candidate="Arlix")


async def test_a_call_waits_for_the_money_that_calls_under_way_may_leave(tmp_path: Path) -> None:
    release = asyncio.Event()
    with open_ledger(place(tmp_path), Budget(stage=(MOST + COST) * USD)) as ledger:

        async def slowly() -> None:
            async with ledger.attempt("Arlix", "first", "key", MOST, PRICES) as hold:
                await release.wait()
                hold.settle(ANSWER, ANSWER.reply)

        first, second = asyncio.create_task(slowly()), asyncio.create_task(pay(ledger, "second"))
        await asyncio.sleep(0.01)
        assert len(rows(tmp_path)) == 1
        release.set()
        await asyncio.gather(first, second)
        assert ledger.spent == 2 * COST


async def test_several_processes_share_a_budget_and_what_was_paid_for(tmp_path: Path) -> None:
    budget = Budget(stage=(MOST + COST) * USD)
    with open_ledger(place(tmp_path), budget) as one, open_ledger(place(tmp_path), budget) as other:
        await pay(one, "a")
        await pay(other, "b")
        assert other.answer("a") == ANSWER.reply
        with pytest.raises(BudgetError):
            await pay(one, "c")
    assert len(rows(tmp_path)) == 4


async def test_a_run_counts_all_its_stages_and_a_day_all_its_runs(tmp_path: Path) -> None:
    with open_ledger(place(tmp_path), Budget()) as ledger:
        await pay(ledger, "a")
    for budget, run, fits in (
        (Budget(run=MOST * USD), "run-1", False), (Budget(run=MOST * USD), "run-2", True),
        (Budget(day=MOST * USD), "run-2", False),
    ):  # fmt: skip
        with open_ledger(place(tmp_path, stage=f"train{fits}{run}", run=run), budget) as ledger:
            if fits:
                await pay(ledger, "b")
            else:
                with pytest.raises(BudgetError):
                    await pay(ledger, "b")


async def test_yesterday_does_not_count_today(tmp_path: Path) -> None:
    yesterday = time.time() - 86_400
    began = {"begin": "x-1", "run": "r", "candidate": "Arlix", "call": "c", "key": "k", "most": MOST, "at": yesterday}
    (tmp_path / "profile-s-0001.jsonl").write_text(json.dumps(began) + "\n")
    with open_ledger(place(tmp_path), Budget(day=MOST * USD)) as ledger:
        assert ledger.held == MOST
        await pay(ledger, "a")


@given(cut=st.integers(0, 2000), more=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_journal_that_is_cut_off_anywhere_loses_its_last_row_only(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")

    async def scene() -> None:
        with open_ledger(place(folder), Budget()) as ledger:
            for number in range(4):
                await pay(ledger, str(number))
        (path,) = folder.glob("*.jsonl")
        whole = path.read_bytes()
        path.write_bytes(whole[: min(cut, len(whole))])
        ends = sum(b'{"end"' in line for line in whole[: min(cut, len(whole))].split(b"\n")[:-1])
        begins = sum(b'{"begin"' in line for line in whole[: min(cut, len(whole))].split(b"\n")[:-1])
        with open_ledger(place(folder), Budget()) as ledger:
            assert (ledger.spent, ledger.held) == (ends * COST, (begins - ends) * MOST)
            for number in range(more):
                await pay(ledger, f"more {number}")
        with open_ledger(place(folder), Budget()) as ledger:
            assert (ledger.spent, ledger.held) == ((ends + more) * COST, (begins - ends) * MOST)

    asyncio.run(scene())


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"begin": 3}', '{"begin":"a","run":"r","at":3,"most":"much"}'])
async def test_a_line_that_is_no_row_is_named_and_nothing_is_called(tmp_path: Path, line: str) -> None:
    (tmp_path / "profile-s-0001.jsonl").write_text(line + "\n")
    with pytest.raises(IntegrityError, match="remove that line"):
        Ledger(place(tmp_path), Budget())


def test_a_line_without_an_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "profile-s-0001.jsonl").open("wb") as handle:
        handle.truncate((1 << 24) + 1)
    with pytest.raises(IntegrityError, match=r"0001\.jsonl has a line of more than 16,777,216 bytes"):
        Ledger(place(tmp_path), Budget())
