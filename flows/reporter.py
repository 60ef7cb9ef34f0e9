"""Who watches a run. Apart from the flow, which Prefect pickles with its module to run it in another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from stages.shared.progress import Snapshot


class Reporter(Protocol):
    """What a run tells whoever watches it."""

    def planned(self, stages: Sequence[str], stale: Sequence[str]) -> None:
        """All stages in order, and those that will run; where the run itself finds that out."""

    def said(self, text: str) -> None:
        """What the run does between stages."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def line(self, stage: str, text: str) -> None:
        """A stage printed a line."""

    def progress(self, stage: str, snapshot: Snapshot | None) -> None:
        """A stage is so far; called about twice a second."""

    def ended(self, stage: str, result: str) -> None:
        """A stage is over: ran, restored, unchanged or failed."""


_watcher: ContextVar[Reporter | None] = ContextVar("watcher", default=None)


def watcher() -> Reporter | None:
    """Whoever watches the run that this code is part of."""
    return _watcher.get()


@contextmanager
def watched_by(reporter: Reporter) -> Iterator[None]:
    """Tell `reporter` about the runs inside this block."""
    token = _watcher.set(reporter)
    try:
        yield
    finally:
        _watcher.reset(token)
