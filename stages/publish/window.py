"""Work on many pieces, a few at once, the results in the order of the pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 4
SMALL = 8 << 20
"""Bytes up to which files are moved side by side; a larger one is moved by itself, its pieces side by side."""
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(work: Callable[[str], Result], files: Mapping[str, int]) -> Iterator[tuple[str, Result]]:
    """`work` on each file, given with its size: a few small ones at once, then the large ones one after the other."""
    small = [name for name, size in files.items() if size <= SMALL]
    yield from in_order(lambda name: (name, work(name)), small)
    for name, size in files.items():
        if size > SMALL:
            yield name, work(name)


def in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """`work` on each piece, by `AT_ONCE` threads.

    At most `AT_ONCE + 2` pieces or results are held at a time. What `work` raises is raised here; whoever stops
    listening waits for what has begun, and nothing more is begun.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
