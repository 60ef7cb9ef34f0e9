"""A few pieces of work at once, in order, with a bound on what is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from stages.publish.window import AT_ONCE, in_order


def test_results_come_in_the_order_of_the_pieces() -> None:
    def work(piece: int) -> int:
        time.sleep(0.01 if piece % AT_ONCE == 0 else 0.0)
        return piece * piece

    assert list(in_order(work, range(20))) == [piece * piece for piece in range(20)]


def test_no_more_pieces_are_taken_than_threads_can_soon_use() -> None:
    taken, lock = [0], threading.Lock()

    def pieces() -> Iterator[int]:
        for piece in range(50):
            with lock:
                taken[0] += 1
            yield piece

    for done, _ in enumerate(in_order(lambda piece: piece, pieces()), start=1):
        assert taken[0] <= done + AT_ONCE


def test_what_work_raises_is_raised_and_nothing_more_is_begun() -> None:
    begun = []

    def work(piece: int) -> int:
        begun.append(piece)
        if piece == 2:
            raise ValueError("the second piece")
        return piece

    with pytest.raises(ValueError, match="second piece"):
        list(in_order(work, range(100)))
    assert len(begun) <= 3 + 2 * AT_ONCE


def test_whoever_stops_listening_stops_the_work() -> None:
    begun = []
    results = in_order(lambda piece: begun.append(piece), range(100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 1 + 2 * AT_ONCE
