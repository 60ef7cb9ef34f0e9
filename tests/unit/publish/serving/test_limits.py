"""A rate, a number of questions at once, and a budget: each refuses clearly and then lets go."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from stages.publish.serving.budget import Budget
from stages.publish.serving.places import Places
from stages.publish.serving.rate import Rate
from stages.publish.serving.refusal import Refusal
from stages.shared.errors import ConfigurationError, IntegrityError

QUESTION = "who is the mayor of zumako"


def test_a_rate_is_of_any_minute_and_says_when_to_come_again() -> None:
    now = [0.0]
    rate = Rate(2, clock=lambda: now[0])
    rate.take()
    now[0] = 50.0
    rate.take()
    with pytest.raises(Refusal) as caught:
        rate.take()
    assert caught.value.response().headers["Retry-After"] == "10"
    now[0] = 60.0
    rate.take()
    with pytest.raises(Refusal):
        rate.take()


async def test_places_are_held_one_after_another_and_the_queue_is_bounded() -> None:
    places = Places(concurrency=1, queue=1)
    order: list[str] = []

    async def _hold(name: str, until: asyncio.Event) -> None:
        async with places.place():
            order.append(name)
            await until.wait()

    first, second = asyncio.Event(), asyncio.Event()
    running = [asyncio.create_task(_hold("first", first)), asyncio.create_task(_hold("second", second))]
    await asyncio.sleep(0)
    assert (order, places.waiting) == (["first"], 1)
    with pytest.raises(Refusal, match="wait already"):
        async with places.place():
            pass
    first.set()
    second.set()
    await asyncio.gather(*running)
    assert (order, places.waiting) == (["first", "second"], 0)


async def test_who_leaves_the_queue_takes_no_place() -> None:
    places = Places(concurrency=1, queue=5)
    async with places.place():
        waiting = asyncio.create_task(places.place().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert places.waiting == 0
    async with asyncio.timeout(1), places.place():
        pass


async def test_a_budget_holds_what_running_questions_may_cost(tmp_path: Path) -> None:
    with Budget(1.0, tmp_path / "b.json") as budget:
        async with budget.reserve(0.6) as tab:
            with pytest.raises(Refusal, match="budget") as caught:
                async with budget.reserve(0.6):
                    pass
            assert caught.value.body()["error"]["code"] == "insufficient_quota"
            assert caught.value.response().headers["Retry-After"] == "1"
            tab.spent = 0.1
        async with budget.reserve(0.6):
            pass


async def test_a_budget_outlives_the_server_and_a_kill_costs_what_was_reserved(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    with Budget(1.0, path) as budget:
        async with budget.reserve(0.5) as tab:
            tab.spent = 0.25
    assert json.loads(path.read_text())["spent_usd"] == 0.25
    killed = Budget(1.0, path).__enter__()
    await killed.reserve(0.5).__aenter__()
    killed.__exit__(None, None, None)
    with Budget(1.0, path) as budget, pytest.raises(Refusal):
        async with budget.reserve(0.5):
            pass


async def test_a_new_day_has_a_new_budget(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 22, 23, 59, tzinfo=UTC)]
    with Budget(1.0, tmp_path / "b.json", clock=lambda: now[0]) as budget:
        async with budget.reserve(1.0) as tab:
            tab.spent = 1.0
        with pytest.raises(Refusal) as caught:
            await budget.reserve(0.1).__aenter__()
        assert caught.value.response().headers["Retry-After"] == "60"
        now[0] += timedelta(minutes=1)
        async with budget.reserve(1.0):
            pass


async def test_many_questions_at_once_never_reserve_more_than_the_budget(tmp_path: Path) -> None:
    taken: list[float] = []

    async def _ask(budget: Budget) -> None:
        async with budget.reserve(0.1) as tab:
            taken.append(0.1)
            await asyncio.sleep(0.01)
            tab.spent = 0.1

    with Budget(1.05, tmp_path / "b.json") as budget:
        done = await asyncio.gather(*(_ask(budget) for _ in range(50)), return_exceptions=True)
    assert len(taken) == 10
    assert sum(isinstance(each, Refusal) for each in done) == 40
    assert json.loads((tmp_path / "b.json").read_text())["spent_usd"] == pytest.approx(1.0)


async def test_a_budget_that_cannot_be_written_down_is_not_spent_and_takes_no_answer_back(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    with Budget(1.0, folder / "b.json") as budget:
        async with budget.reserve(0.5) as tab:
            shutil.rmtree(folder)
            folder.write_text("in the way")
            tab.spent = 0.4
        with pytest.raises(Refusal, match="cannot be written down") as refused:
            async with budget.reserve(0.5):
                raise AssertionError("nobody may be asked")
        assert refused.value.status == 503
        folder.unlink()
        async with budget.reserve(0.6):
            assert json.loads((folder / "b.json").read_text())["spent_usd"] == pytest.approx(1.0)


def test_two_servers_do_not_share_one_budget(tmp_path: Path) -> None:
    with Budget(1.0, tmp_path / "b.json"), pytest.raises(ConfigurationError, match="another server"):
        Budget(1.0, tmp_path / "b.json").__enter__()


@pytest.mark.parametrize("text", ["", "{}", '{"day": "x", "spent_usd": -1}', '{"day": "x", "spent_usd": NaN}'])
def test_a_budget_file_that_says_nothing_stops_the_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(IntegrityError, match="remove it"):
        Budget(1.0, tmp_path / "b.json").__enter__()


def test_too_many_requests_a_minute_are_sent_away_with_a_time(shop: Any, serve: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(rate=2) as server:
        for _ in range(2):
            server.ask(QUESTION)
        with pytest.raises(openai.RateLimitError) as caught:
            server.ask(QUESTION)
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.code == "rate_limit_exceeded"


def test_more_questions_than_places_wait_and_more_than_the_queue_are_sent_away(
    shop: Any, serve: Any, candidates: Any, eventually: Any
) -> None:
    shop.promote(shop.publish(0.5))
    with serve(concurrency=2, queue=1) as server, ThreadPoolExecutor(3) as clients:
        running = [clients.submit(server.ask, f"wait {QUESTION}") for _ in range(3)]
        assert eventually(lambda: server.metric("pointsman_waiting") == 1)
        assert server.metric("pointsman_in_flight") == 2
        with pytest.raises(openai.RateLimitError, match="wait already"):
            server.ask(QUESTION)
        candidates.gate.set()
        assert [each.result().choices[0].message.content for each in running] == [candidates.reply] * 3
        assert server.metric("pointsman_in_flight") == server.metric("pointsman_waiting") == 0


def test_a_spent_budget_stays_spent_after_a_restart(shop: Any, serve: Any, candidates: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(budget_usd=1.0) as server:
        most = server.follower.current.most
    with serve(budget_usd=most) as server:
        server.ask(QUESTION)
        with pytest.raises(openai.RateLimitError) as caught:
            server.ask(QUESTION)
        assert caught.value.code == "insufficient_quota"
    with serve(budget_usd=most) as server, pytest.raises(openai.RateLimitError):
        server.ask(QUESTION)
    with serve(budget_usd=most + 2 * candidates.cost_usd) as server:
        server.ask(QUESTION)


def test_concurrent_questions_do_not_overshoot_the_budget(shop: Any, serve: Any, candidates: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve() as server:
        limit = 2.5 * server.follower.current.most
    outcomes: list[str] = []
    together = threading.Barrier(12)

    def _ask(server: Any) -> None:
        together.wait()
        try:
            server.ask(f"wait {QUESTION}")
            outcomes.append("answered")
        except openai.RateLimitError as error:
            outcomes.append(str(error.code))
        if len(outcomes) >= 10:
            candidates.gate.set()

    with serve(budget_usd=limit) as server, ThreadPoolExecutor(12) as clients:
        for done in [clients.submit(_ask, server) for _ in range(12)]:
            done.result()
    assert sorted(outcomes) == ["answered"] * 2 + ["insufficient_quota"] * 10
