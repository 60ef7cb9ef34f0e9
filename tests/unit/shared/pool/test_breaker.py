"""A candidate that is down is left alone for a while."""

from __future__ import annotations

import asyncio
import time

import pytest

from stages.shared.pool import breaker
from stages.shared.pool.breaker import FAILURES, Breaker


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(breaker, "LOOK_S", 0.01)


def down(patience_s: float) -> Breaker:
    made = Breaker(patience_s)
    for _ in range(FAILURES):
        made.failed(time.monotonic())
    return made


async def test_it_stays_closed_as_long_as_some_are_answered() -> None:
    made = Breaker(1.0)
    for _ in range(20):
        for _ in range(FAILURES - 1):
            made.failed(time.monotonic())
        made.answered()
    began = time.monotonic()
    assert await made.enter()
    assert time.monotonic() - began < 0.04


async def test_one_call_tries_again_while_the_others_wait_and_go_on_once_it_is_answered() -> None:
    made = down(5.0)
    entered: list[float] = []

    async def call() -> None:
        assert await made.enter()
        entered.append(time.monotonic())

    tasks = [asyncio.create_task(call()) for _ in range(5)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert len(entered) == 1
    made.answered()
    await asyncio.gather(*tasks)


async def test_who_waited_for_too_long_is_refused() -> None:
    made = down(0.15)
    began = time.monotonic()
    allowed = []
    while not allowed or allowed[-1]:
        allowed.append(await made.enter())
        if allowed[-1]:
            made.failed(time.monotonic())
    assert 0.1 < time.monotonic() - began < 3
