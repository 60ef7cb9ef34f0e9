"""What one candidate is given for itself: its limits, its timeout, its parameters."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stages.shared.params import ApiCandidate, ApiPool, Budget
from stages.shared.pool.candidate import Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import Place, open_ledger
from stages.shared.pool.serving import api_candidates
from tests.unit.shared.pool.provider import Provider, limits, slow

pytestmark = pytest.mark.usefixtures("hasty")
KNOWN = {"name": "Arlix", "model": "m", "base_url": "http://127.0.0.1:1/v1", "price": 2.0, "prompt_price": 0.5}


def made(provider: Provider, **own: Any) -> Any:
    pool = ApiPool(candidates=(ApiCandidate.model_validate({**KNOWN, "base_url": provider.base_url, **own}),))
    return api_candidates(pool)


async def test_its_parameters_and_tokens_are_in_the_request_and_others_are_as_ever(provider: Provider) -> None:
    own = made(provider, max_tokens=7, parameters={"top_p": 0.5, "reasoning": {"effort": "low"}})
    for candidates in (own, made(provider)):
        async with HttpPool(candidates, limits()) as pool:
            await pool.ask("Arlix", "q")
    first, second = provider.requests
    assert (first["max_tokens"], first["top_p"], first["reasoning"]) == (7, 0.5, {"effort": "low"})
    assert (second["max_tokens"], second["top_p"], "reasoning" in second) == (512, 1.0, False)
    assert {**second, "max_tokens": 7, "top_p": 0.5, "reasoning": {"effort": "low"}} == first


async def test_its_tokens_are_what_a_budget_holds_back(provider: Provider, tmp_path: Path) -> None:
    with open_ledger(Place(tmp_path, "profile", "s"), Budget()) as ledger:
        async with HttpPool(made(provider, max_tokens=7), limits(), ledger) as pool:
            assert pool.most("Arlix", 100) == (164 * 500_000) + (7 * 2_000_000)


async def test_its_timeout_and_its_places_are_its_own(provider: Provider) -> None:
    provider.script = [slow(0.3)]
    async with HttpPool(made(provider, timeout_s=0.05), limits(attempts=1)) as pool:
        began = time.perf_counter()
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.TIMED_OUT
        assert time.perf_counter() - began < 0.25
    await asyncio.sleep(0.3)
    provider.script, provider.most_inside = [slow(0.01)], 0
    async with HttpPool(made(provider, concurrency=2), limits(concurrency=8)) as pool:
        await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(8)))
    assert provider.most_inside == 2


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "temperature", "max_tokens"])
def test_parameters_cannot_change_what_a_call_is(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} cannot be set here"):
        ApiCandidate.model_validate({**KNOWN, "parameters": {name: 1}})
