"""How many attempts a provider gets at a time."""

from __future__ import annotations

import asyncio
import time

from stages.shared.pool.pace import Pace


async def fill(pace: Pace, count: int) -> tuple[asyncio.Event, list[asyncio.Task[None]], list[int]]:
    """Attempts that stay inside until told."""
    go, inside = asyncio.Event(), [0, 0]

    async def one() -> None:
        async with pace:
            inside[0] += 1
            inside[1] = max(inside)
            await go.wait()
            inside[0] -= 1

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await asyncio.sleep(0)
    return go, tasks, inside


async def test_as_many_are_inside_as_there_are_places() -> None:
    go, tasks, inside = await fill(Pace(4), 10)
    assert inside[0] == 4
    go.set()
    await asyncio.gather(*tasks)
    assert inside == [0, 4]


async def test_too_many_requests_halve_the_places_once_a_round_and_answers_bring_them_back() -> None:
    pace, began = Pace(16), time.monotonic()
    for _ in range(16):
        pace.limited(began, 0.0)
    assert pace.width == 8
    pace.limited(time.monotonic(), 0.0)
    assert pace.width == 4
    for _ in range(5):
        pace.answered()
    assert pace.width == 5
    for _ in range(1000):
        pace.answered()
    assert pace.width == 16


async def test_one_place_is_always_left() -> None:
    pace = Pace(2)
    for _ in range(5):
        pace.limited(time.monotonic(), 0.0)
    async with pace:
        assert pace.width == 1


async def test_nobody_asks_again_before_the_time_that_the_provider_named() -> None:
    pace = Pace(4)
    pace.limited(time.monotonic(), 0.1)
    began = time.monotonic()
    async with pace:
        assert time.monotonic() - began >= 0.09


async def test_who_gives_up_while_waiting_leaves_the_place_to_the_next() -> None:
    pace = Pace(1)
    go, tasks, _ = await fill(pace, 3)
    tasks[1].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[2].exception() is None
    pace.limited(time.monotonic(), 5.0)
    late = asyncio.create_task(fill_one(pace))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert pace._inside == 0


async def fill_one(pace: Pace) -> None:
    async with pace:
        pass
