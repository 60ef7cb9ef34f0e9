"""How many requests and tokens a minute a provider is sent, and one candidate of it."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from stages.shared.params import ApiCandidate, ApiPool, PoolLimits, WorldParams
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.rate import GUESS, LEAST, Rate, turn
from stages.shared.pool.serving import api_candidates
from stages.shared.pool.setting import setting
from tests.unit.shared.pool.provider import Behaviour, Provider, limits, said, slow, status

pytestmark = pytest.mark.usefixtures("hasty")
EARLY_S = 0.01
"""What a request may come too early by: its way takes a little longer or shorter than the last one's."""
KNOWN = {"model": "model-1", "price": 2.0, "prompt_price": 0.5}


def timed(provider: Provider) -> list[tuple[float, str]]:
    """When requests arrive, and what they ask."""
    found = list[tuple[float, str]]()

    def noted(behaviour: Behaviour) -> Behaviour:
        async def behave(request: web.Request) -> web.StreamResponse:
            found.append((time.monotonic(), provider.requests[-1]["messages"][-1]["content"][-2:]))
            return await behaviour(request)

        return behave

    provider.script = [noted(behaviour) for behaviour in provider.script]
    return found


async def ask(candidates: list[Candidate], count: int, **changed: Any) -> None:
    async with HttpPool(candidates, limits(**changed)) as pool:
        replies = await asyncio.gather(
            *(pool.ask(each.name, f"{number}{each.name}") for each in candidates for number in range(count))
        )
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}


def most_within(arrivals: list[tuple[float, str]], window_s: float) -> int:
    """The most that arrived within any stretch of time of that length."""
    times = [at for at, _ in arrivals]
    return max(sum(first <= at < first + window_s for at in times) for first in times)


async def test_a_provider_gets_no_more_requests_than_it_allows_whoever_of_its_candidates_is_asked(
    provider: Provider,
) -> None:
    arrivals = timed(provider)
    await ask([provider.candidate("A"), provider.candidate("B")], 5, requests_per_minute=1500)
    assert len(arrivals) == 10
    assert most_within(arrivals, 0.2 - EARLY_S) <= 5
    assert arrivals[-1][0] - arrivals[0][0] >= 9 * 60 / 1500 - EARLY_S


async def test_a_candidate_of_its_own_limit_holds_nobody_up(provider: Provider) -> None:
    arrivals = timed(provider)
    await ask([provider.candidate("A", requests_per_minute=1200), provider.candidate("B")], 5)
    at = {name: [when for when, asked in arrivals if asked.endswith(name)] for name in "AB"}
    assert min(later - earlier for earlier, later in pairwise(at["A"])) >= 0.05 - EARLY_S
    assert at["B"][-1] < at["A"][2]


async def test_tokens_are_counted_as_answers_tell_them(provider: Provider) -> None:
    rate = Rate(None, 6000)
    began = time.monotonic()
    for _ in range(3):
        async with turn([rate], asyncio.Semaphore(1)) as used:
            used(10)
    assert 0.2 - EARLY_S <= time.monotonic() - began < 0.5
    arrivals = timed(provider)
    await ask([provider.candidate("A", tokens_per_minute=60 * GUESS * 20)], 6)
    assert arrivals[-1][0] - arrivals[0][0] >= 5 * 25 / (GUESS * 20) - EARLY_S


async def test_fewer_are_sent_after_a_refusal_and_slowly_more_again() -> None:
    rate, began = Rate(60, None), time.monotonic()
    for _ in range(5):
        rate.limited(began)
    assert (rate.share, rate.take()) == (0.5, 2.0)
    for _ in range(20):
        rate.limited(time.monotonic())
    assert rate.share == LEAST
    for _ in range(1000):
        rate.answered()
    assert (rate.share, rate.take()) == (1.0, 1.0)


async def test_a_refusal_by_the_provider_slows_its_candidates_down(provider: Provider) -> None:
    provider.script = [status(429), said()]
    async with HttpPool([provider.candidate()], limits(requests_per_minute=6000)) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.ANSWERED
        (rate,) = pool._lines["Arlix"].rates
        assert 0.5 < rate.share < 0.6


async def test_who_gives_up_while_waiting_takes_no_turn_from_others() -> None:
    rate, places = Rate(600, None), asyncio.Semaphore(1)
    rate.take()

    async def one() -> None:
        async with turn([rate], places):
            pass

    began = time.monotonic()
    tasks = [asyncio.create_task(one()) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 0.1 - EARLY_S < time.monotonic() - began < 0.19
    assert not places.locked()


async def test_a_wait_for_ones_turn_is_no_part_of_the_deadline(provider: Provider) -> None:
    provider.script = [status(500), slow(0.02)]
    arrivals = timed(provider)
    async with HttpPool([provider.candidate()], limits(requests_per_minute=600, deadline_s=0.3)) as pool:
        replies = await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(6)))
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    assert arrivals[-1][0] - arrivals[0][0] > 0.4


def test_limits_a_minute_come_from_the_parameters_and_change_no_setting() -> None:
    own = {**KNOWN, "name": "A", "base_url": "http://127.0.0.1:1/v1"}
    each = {"requests_per_minute": 60, "tokens_per_minute": 9000}
    pools = [
        ApiPool(candidates=(ApiCandidate.model_validate(own | more),), limits=PoolLimits.model_validate(more))
        for more in ({}, each)
    ]
    assert len({setting(pool, WorldParams()) for pool in pools}) == 1
    (candidate,) = api_candidates(pools[1])
    assert (candidate.requests_per_minute, candidate.tokens_per_minute) == (60, 9000)
    with pytest.raises(ValidationError, match="greater than 0"):
        PoolLimits(requests_per_minute=0)
