"""Deadlines, money, crowds, outages and addresses that are not meant: what a client does beside asking."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params import Budget
from stages.shared.pool import breaker, endpoint
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.endpoint import where
from stages.shared.pool.ledger import Place, open_ledger
from tests.unit.shared.pool.provider import Provider, half, limits, raw, reset, said, slow, status

pytestmark = pytest.mark.usefixtures("hasty")


async def test_a_call_ends_at_its_deadline_whatever_attempts_are_left(provider: Provider) -> None:
    provider.script = [status(500)]
    began = time.perf_counter()
    async with HttpPool([provider.candidate()], limits(attempts=1000, deadline_s=0.3)) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.UNREACHABLE
    assert time.perf_counter() - began < 2
    provider.script = [slow(3)]
    async with HttpPool([provider.candidate()], limits(deadline_s=0.3)) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.TIMED_OUT
    assert time.perf_counter() - began < 3


async def test_a_candidate_that_comes_back_loses_no_call(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(breaker, "LOOK_S", 0.01)
    provider.script = [status(503)] * 12 + [said()]
    async with HttpPool([provider.candidate()], limits(attempts=2)) as pool:
        lost = [await pool.ask("Arlix", f"q{number}") for number in range(5)]
        kept = await asyncio.gather(*(pool.ask("Arlix", f"r{number}") for number in range(20)))
        async with HttpPool([provider.candidate()], limits()) as other:
            provider.script = [status(404)]
            wrong = [await other.ask("Arlix", f"s{number}") for number in range(8)]
    assert {reply.outcome for reply in (*lost, *wrong)} == {Outcome.UNREACHABLE}
    assert sum(reply.outcome is Outcome.ANSWERED for reply in kept) >= 19
    assert [reply.attempts for reply in wrong] == [1] * 8


async def test_a_candidate_that_stays_down_is_not_tried_for_ever(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.05)
    provider.script = [status(503)]
    async with HttpPool([provider.candidate()], limits(attempts=1, deadline_s=0.2)) as pool:
        replies = [await pool.ask("Arlix", f"q{number}") for number in range(5)]
        while replies[-1].attempts:
            replies.append(await pool.ask("Arlix", f"q{len(replies)}"))
    assert {reply.outcome for reply in replies} == {Outcome.UNREACHABLE}
    assert "down for long" in replies[-1].detail


async def test_the_same_question_is_under_way_only_once(provider: Provider) -> None:
    provider.script = [slow(0.05)]
    async with HttpPool([provider.candidate()], limits()) as pool:
        replies = await asyncio.gather(*(pool.ask("Arlix", text) for text in ("q", "q", "other", "q")))
    assert {reply.text for reply in replies} == {"belane"}
    assert len(provider.requests) == 2
    async with HttpPool([provider.candidate()], limits(temperature=0.5)) as pool:
        await asyncio.gather(*(pool.ask("Arlix", "q") for _ in range(3)))
    assert len(provider.requests) == 5


async def test_what_is_in_the_ledger_is_not_asked_again(provider: Provider, tmp_path: Path) -> None:
    provider.script = [raw(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'), said()]
    replies = []
    for _ in range(2):
        with open_ledger(Place(tmp_path, "profile", "s"), Budget()) as ledger:
            async with HttpPool([provider.candidate()], limits(), ledger) as pool:
                replies.append(await pool.ask("Arlix", "q"))
        assert ledger.spent == (21 * 500_000) + (6 * 2_000_000)
    assert replies[0] == replies[1]
    assert (replies[1].attempts, len(provider.requests)) == (2, 2)


async def test_no_call_is_made_without_money_for_it(provider: Provider, tmp_path: Path) -> None:
    with open_ledger(Place(tmp_path, "profile", "s"), Budget(stage=1e-6)) as ledger:
        async with HttpPool([provider.candidate()], limits(), ledger) as pool:
            with pytest.raises(BudgetError, match=r"pool\.limits\.budget\.stage"):
                await pool.ask("Arlix", "q")
    assert provider.requests == []


def test_a_candidate_without_a_price_is_refused_before_its_first_call() -> None:
    with pytest.raises(ConfigurationError, match="price of Arlix"):
        HttpPool([Candidate("Arlix", "m", "http://127.0.0.1:1/v1", price=float("nan"), prompt_price=0.0)], limits())


async def test_a_provider_hears_the_same_key_while_it_may_have_charged_for_a_lost_answer(provider: Provider) -> None:
    unusable = raw(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}')
    provider.script = [reset, half, status(500), unusable, said(), status(500), said()]
    async with HttpPool([provider.candidate(headers=(("X-Team", "routing"),))], limits(attempts=9)) as pool:
        await pool.ask("Arlix", "q")
        await pool.ask("Arlix", "r")
    keys = [headers["Idempotency-Key"] for headers in provider.headers]
    assert len(set(keys[:4])) == 1
    assert len(set(keys[3:])) == 4
    assert {headers["X-Team"] for headers in provider.headers} == {"routing"}


async def test_a_provider_that_allows_few_at_a_time_gets_few(provider: Provider) -> None:
    async def crowded(request: web.Request) -> web.StreamResponse:
        if provider.inside > 3:
            return await status(429)(request)
        return await slow(0.01)(request)

    provider.script = [crowded]
    async with HttpPool([provider.candidate()], limits(concurrency=64, attempts=20)) as pool:
        replies = await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(200)))
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    assert len(provider.requests) < 600


async def test_a_private_address_is_refused_unless_it_is_meant() -> None:
    for address in ("http://10.1.2.3/v1", "http://[fd00::1]/v1", "http://169.254.169.254/v1", "http://0.0.0.0/v1",
                    "http://[::ffff:192.168.0.1]/v1"):  # fmt: skip
        async with HttpPool([Candidate("A", "m", address, 1.0, 1.0)], limits()) as pool:
            with pytest.raises(ConfigurationError, match=r"private address.*private: true"):
                await pool.check()
            reply = await pool.ask("A", "q")
        assert (reply.outcome, reply.attempts) == (Outcome.UNREACHABLE, 1)
    assert where(Candidate("A", "m", "http://10.1.2.3/v1", 1.0, 1.0, private=True)) == "http://10.1.2.3/v1"


async def test_a_public_name_cannot_lead_to_a_private_address(provider: Provider, monkeypatch: Any) -> None:
    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "10.0.0.7", "port": port, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(endpoint.DefaultResolver, "resolve", resolve)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with HttpPool([Candidate("A", "m", "http://api.example.com/v1", 1.0, 1.0)], limits()) as pool:
        reply = await pool.ask("A", "q")
    assert (reply.outcome, reply.attempts) == (Outcome.UNREACHABLE, 1)
    assert "10.0.0.7, a private address" in reply.detail
