"""Dollars a day: reserved before a question is asked, settled after, and remembered across restarts."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from stages.publish.serving.refusal import Refusal
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import read_json, write_json

_LOG = logging.getLogger(__name__)
RETRY_S = 60.0


@dataclass
class Tab:
    """What one question has cost so far, dollars."""

    spent: float = 0.0


class Budget:
    """At most so many dollars in a day (UTC). Use as `with Budget(...) as budget`: one server a file.

    The file holds what was spent and what is reserved, before the first call of a question is made: a server that is
    killed has spent all that its running questions could.
    """

    def __init__(self, limit: float | None, path: Path, clock: Callable[[], datetime] | None = None) -> None:
        """`limit` None: nothing is bounded, and nothing kept."""
        self._limit = limit
        self._path = path
        self._clock = clock or (lambda: datetime.now(UTC))
        self._stack = ExitStack()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="budget")
        self._day = ""
        self._spent = 0.0
        self._reserved = 0.0

    def __enter__(self) -> Budget:
        """Raises ConfigurationError where another server keeps this budget, IntegrityError for a file that is none."""
        if self._limit is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._stack.enter_context(self._path.with_suffix(".lock").open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._stack.close()
                raise ConfigurationError(
                    f"another server keeps the budget in {self._path}; stop it, or serve from another checkout"
                ) from error
            self._day, self._spent = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)
        self._stack.close()

    @asynccontextmanager
    async def reserve(self, most: float) -> AsyncIterator[Tab]:
        """Set `most` dollars aside for the block; what its tab says then is spent.

        Raises Refusal on a day too full, and where it cannot be written down.
        """
        tab = Tab()
        if self._limit is None:
            yield tab
            return
        self._turn_page()
        if self._spent + self._reserved + most > self._limit:
            held = self._spent + most <= self._limit
            raise Refusal(
                429, "over-budget",
                f"the budget of ${self._limit:g} a day is {'held for running questions' if held else 'used up'}",
                code="insufficient_quota", retry_after_s=1 if held else self._until_midnight_s(),
            )  # fmt: skip
        self._reserved += most
        try:
            if not await self._keep():
                said = "what a question may cost cannot be written down; the server's log says why"
                raise Refusal(503, "unavailable", said, retry_after_s=RETRY_S)
            yield tab
        finally:
            self._turn_page()
            self._reserved -= most
            self._spent += tab.spent
            await self._keep()

    def _turn_page(self) -> None:
        today = self._clock().date().isoformat()
        if today != self._day:
            self._day, self._spent = today, 0.0

    def _until_midnight_s(self) -> float:
        now = self._clock()
        return (datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo) - now).total_seconds()

    async def _keep(self) -> bool:
        """Whether it was written down. What is not settled there counts as spent, all that was reserved.

        One thread writes, in order; a client that leaves meanwhile neither stops a write nor lets two overlap.
        """
        known = {"day": self._day, "spent_usd": max(0.0, self._spent + self._reserved)}
        try:
            await asyncio.shield(asyncio.wrap_future(self._writer.submit(write_json, self._path, known)))
        except OSError as error:
            _LOG.error("the budget cannot be kept in %s: %s", self._path, error)
            return False
        return True

    def _read(self) -> tuple[str, float]:
        try:
            known = read_json(self._path)
            day, spent = str(known["day"]), float(known["spent_usd"])
        except FileNotFoundError:
            return "", 0.0
        except (ValueError, LookupError, TypeError) as error:
            raise IntegrityError(
                f"{self._path} does not say what was spent ({error!r}); remove it to begin the day anew"
            ) from error
        if not math.isfinite(spent) or spent < 0:
            raise IntegrityError(f"{self._path} says that ${spent} were spent; remove it to begin the day anew")
        return day, spent
