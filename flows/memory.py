"""How much memory a stage takes, seen from outside."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

MIB = 1 << 20
EVERY_S = 2.0
"""To look at every process takes a few milliseconds."""


class Peak:
    """The most resident memory of all processes that began below this one since, added up: what they share counts
    for each of them, so that it is no less than the truth.
    """

    def __init__(self) -> None:
        self._others = {process.pid for process in _below()}
        self._next = 0.0
        self._most = 0

    @property
    def mib(self) -> int | None:
        """None where no process was seen."""
        return round(self._most / MIB) or None

    def look(self) -> None:
        """Now, if the last look is long enough ago."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        self._most = max(self._most, sum(_resident(process) for process in _below() if process.pid not in self._others))


def machine_mib() -> float:
    """All that this machine has."""
    return float(psutil.virtual_memory().total) / MIB


def _below() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def _resident(process: psutil.Process) -> int:
    found = 0
    with suppress(psutil.Error):
        found = process.memory_info().rss
    return found
