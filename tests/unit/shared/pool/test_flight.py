"""Who asks the same at the same time shares one call."""

from __future__ import annotations

import asyncio

import pytest

from stages.shared.pool.candidate import Outcome, Reply
from stages.shared.pool.flight import SingleFlight


class Calls:
    def __init__(self) -> None:
        self.made = self.cancelled = 0
        self.go = asyncio.Event()

    async def make(self) -> Reply:
        self.made += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reply(str(self.made), Outcome.ANSWERED)


async def test_the_same_call_is_made_once_while_it_is_under_way_and_again_after() -> None:
    calls, flights = Calls(), SingleFlight()
    waiting = [asyncio.create_task(flights.share("a", calls.make)) for _ in range(5)]
    other = asyncio.create_task(flights.share("b", calls.make))
    await asyncio.sleep(0)
    calls.go.set()
    assert {reply.text for reply in await asyncio.gather(*waiting)} == {(await waiting[0]).text}
    await other
    assert calls.made == 2
    await flights.share("a", calls.make)
    assert calls.made == 3


async def test_who_gives_up_takes_nobody_along_and_the_last_one_ends_the_call() -> None:
    calls, flights = Calls(), SingleFlight()
    first, second = (asyncio.create_task(flights.share("a", calls.make)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert (calls.made, calls.cancelled) == (1, 0)
    second.cancel()
    await asyncio.sleep(0.01)
    assert calls.cancelled == 1
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_an_error_reaches_everybody() -> None:
    flights = SingleFlight()

    async def fail() -> Reply:
        await asyncio.sleep(0)
        raise ValueError("no")

    found = await asyncio.gather(*(flights.share("a", fail) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["no"] * 3
