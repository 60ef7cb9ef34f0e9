"""Every attempt at a paid call, written down before it is made and after it ended, with what was paid for.

A run of a stage writes one journal under .pointsman; begun again after a crash it goes on with the same one, so that an
answer that was paid for is read there, and not paid for again. Budgets reserve the most that a call may cost before it
is made, and settle when it has ended.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from stages.shared.errors import BudgetError, IntegrityError
from stages.shared.params.pool import Budget
from stages.shared.pool.account import RUN, Account, with_given
from stages.shared.pool.attempt import Attempt
from stages.shared.pool.candidate import Outcome, Reply
from stages.shared.pool.journal import Journal, Lock, Row
from stages.shared.pool.money import Tariff, dollars, picos

FOLDER = "ledger"
SYNC_S = 0.2
PAGE = 1 << 24
"""Bytes of a journal that nothing finishes, since those who write it only answer questions."""


@dataclass(frozen=True)
class Place:
    """Which journal: whose stage, and what its answers depend on beside the question itself."""

    folder: Path
    stage: str
    setting: str
    """A digest of pool, world and instructions: answers of one setting are good in no other."""
    run: str = field(default_factory=lambda: os.environ.get(RUN) or uuid.uuid4().hex[:12])
    since: float = 0.0
    """Answers from before are not used again, seconds since 1970."""


@dataclass(slots=True)
class Hold:
    """Money held back for one attempt, for as long as an `async with` runs; see `Ledger.attempt`."""

    ledger: Ledger
    begin: Row
    tariff: Tariff
    settled: Row | None = None

    async def __aenter__(self) -> Hold:
        await self.ledger.reserve(self.begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ledger.release(self.begin["begin"], self.settled)

    def settle(self, attempt: Attempt, reply: Reply) -> None:
        """Note how the attempt ended, and the reply that it and the attempts before it come to.

        What was charged is null where the provider's answer did not arrive whole.
        """
        tokens = attempt.reply.prompt_tokens, attempt.reply.completion_tokens
        cost = self.tariff.cost(*tokens) if attempt.certain else None
        self.settled = {"end": self.begin["begin"], "cost": cost, "at": self.ledger.now(), "reply": reply.row()}
        if attempt.served:
            self.settled["served"] = attempt.served


class Ledger:
    """The journal of one stage, open in one process; several processes may have it open at once.

    What is written survives SIGKILL at once, and a power cut after `SYNC_S` seconds. Raises IntegrityError for a
    journal that was tampered with.
    """

    def __init__(self, place: Place, budget: Budget, *, alone: bool = False, most: int | None = None) -> None:
        """`alone` raises ConflictError where another process that wants to be has the same journal open.

        `most`: how many answers are found again, the newest; all where whoever asks keeps none himself.
        """
        self._place, self._most = place, most
        self._limits = {name: picos(usd) for name, usd in with_given(budget) if usd is not None}
        self._account = Account(place.stage)
        self._answers: dict[str, tuple[int, int]] = {}
        self._calls: dict[str, tuple[str, str]] = {}
        self._keys: dict[str, str] = {}
        self._unsure: Counter[str] = Counter()
        self._live: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._number, self._writer = 0, uuid.uuid4().hex[:8]
        self._due = False
        self._closing = threading.Lock()
        self.reused = self.reroutes = 0
        place.folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(place.folder / ".lock")
        with self._lock:
            self._path = _unfinished(place)
            self._journal: Journal | None = Journal(self._path, self._hear)
            if alone:
                self._journal.hold()
            self._journal.catch_up()
        self._others: dict[Path, Journal] = {}

    def answer(self, call: str) -> Reply | None:
        """The answer to a call that was paid for before, None where there is none."""
        found = self._answers.get(call)
        if found is None:
            return None
        self.reused += 1
        return Reply.of(self._open.at(*found)["reply"])

    def key(self, call: str) -> str | None:
        """What a provider was told to know a call by whose answer it may have charged for, and which never arrived.

        Told the same again, it may give the same answer without charging again. None where there is no such call.
        """
        return self._keys.get(call)

    def attempt(self, candidate: str, call: str, key: str, most: int, tariff: Tariff) -> Hold:
        """Hold back the most that an attempt may cost while an `async with` makes it; `Hold.settle` says how it ended.

        `call` is what is asked, `key` what the provider is told to know the attempt by, `most` is in picos. A block
        that ends without `settle` was interrupted: the money stays held back. Waits while calls under way hold what
        this one needs; raises BudgetError when they do not free enough.
        """
        self._number += 1
        row = {"begin": f"{self._writer}-{self._number}", "run": self._place.run, "candidate": candidate, "call": call,
               "key": key, "most": most}  # fmt: skip
        return Hold(self, row, tariff)

    async def reserve(self, row: Row) -> None:
        """Write the beginning of an attempt down, once there is money for it."""
        row["at"] = self.now()
        while (shortage := self._reserve(row)) is not None:
            if not self._live:
                raise BudgetError(f"{shortage}; raise it and run again: what was paid for is kept")
            self._waiting.append(future := asyncio.get_running_loop().create_future())
            await future
        self._sync_soon()

    def release(self, begin: str, settled: Row | None) -> None:
        """An attempt is over, whose end, where one is known, is written down."""
        self._live.discard(begin)
        if settled is not None:
            with self._lock:
                self._open.append(settled)
            self._sync_soon()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def rerouted(self, asked: str, answered: str, why: Outcome) -> None:
        """Write down that one candidate answered in place of another; what both cost is in rows of their own."""
        row = {"rerouted": asked, "to": answered, "why": why, "run": self._place.run, "at": self.now()}
        with self._lock:
            self._open.append(row)
        self._sync_soon()

    def now(self) -> float:
        """Seconds since 1970, but never before `Place.since`: a clock that is set back makes no new answer old."""
        since = self._place.since
        return max(_now(), since) if math.isfinite(since) else _now()

    def told(self) -> str:
        """What this run of the stage came to, for a person."""
        known = self._account.sums["stage", self._place.stage]
        held = f", at most {dollars(known.held)} more for calls that broke off" if known.held else ""
        reused = f"; {self.reused} answers used again" if self.reused else ""
        rerouted = f"; {self.reroutes} calls answered by another candidate than was asked" if self.reroutes else ""
        return f"{dollars(known.spent)} paid to candidates{held}{reused}{rerouted}"

    @property
    def spent(self) -> int:
        """Picos charged in this stage, interruptions included."""
        return self._account.sums["stage", self._place.stage].spent

    @property
    def held(self) -> int:
        """Picos held back in this stage."""
        return self._account.sums["stage", self._place.stage].held

    def turn_page(self) -> None:
        """Let those who open this ledger from now on begin another file, where this one has grown to `PAGE` bytes."""
        with self._lock:
            self._open.catch_up()
            if self._open.size >= PAGE:
                self._open.append({"finished": _now()})

    def finish(self) -> None:
        """Write that nothing follows; see `finish_ledger`. A stage that paid for nothing leaves no journal."""
        with self._lock:
            self._open.catch_up()
            if self._open.size:
                self._open.append({"finished": _now()})
            else:
                self._path.unlink()

    def close(self) -> None:
        """Put everything on the disk and let go."""
        with self._closing:
            journal, self._journal = self._journal, None
            if journal is not None:
                journal.close()
                self._lock.close()
        for other in self._others.values():
            other.close()
        self._others.clear()

    def _reserve(self, row: Row) -> str | None:
        with self._lock:
            shortage = self._shortage(row) if self._limits else None
            if shortage is None:
                self._open.append(row)
                self._live.add(row["begin"])
            return shortage

    def _shortage(self, row: Row) -> str | None:
        self._open.catch_up()
        if "run" in self._limits or "day" in self._limits:
            self._look_at_others()
        return self._account.shortage(self._limits, row)

    def _look_at_others(self) -> None:
        """What other stages spent of the same run, and on this day."""
        for path in self._place.folder.glob("*.jsonl"):
            if path != self._path and path not in self._others:
                self._others[path] = Journal(path, partial(self._count, False))
        for journal in self._others.values():
            journal.catch_up()

    def _hear(self, row: Row, place: int, length: int) -> None:
        self._count(True, row, place, length)
        if "begin" in row:
            self._calls[row["begin"]] = row["call"], row["key"]
            self._keys[row["call"]] = row["key"]
            self._unsure[row["key"]] += 1
        elif "end" in row:
            call, key = self._calls.pop(row["end"], ("", ""))
            if row["cost"] is not None:
                self._settle(call, key, charged=row["cost"] > 0 or _is_answer(row))
            if call and row["at"] >= self._place.since and _is_answer(row):
                self._answers[call] = place, length
                if self._most is not None and len(self._answers) > self._most:
                    del self._answers[next(iter(self._answers))]
        elif "rerouted" in row:
            self.reroutes += 1

    def _settle(self, call: str, key: str, charged: bool) -> None:
        """Forget a key once no attempt under it may have been charged that is not in the books."""
        self._unsure[key] -= 1
        if charged or self._unsure[key] <= 0:
            del self._unsure[key]
            if self._keys.get(call) == key:
                del self._keys[call]

    def _count(self, own: bool, row: Row, place: int, length: int) -> None:
        try:
            if "begin" in row:
                self._account.began(row, own)
            elif "end" in row:
                self._account.ended(row)
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"{self._place.folder}: not a row of ours: {row}; remove that line") from error

    @property
    def _open(self) -> Journal:
        assert self._journal is not None, "the ledger is closed"
        return self._journal

    def _sync_soon(self) -> None:
        """One fsync for everything that is written within `SYNC_S`, in a thread."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(SYNC_S, self._start_sync)

    def _start_sync(self) -> None:
        self._due = False
        try:
            asyncio.get_running_loop().run_in_executor(None, self._sync)
        except RuntimeError:  # the loop is shutting down: its threads are gone
            self._sync()

    def _sync(self) -> None:
        with self._closing:
            if self._journal is not None:
                self._journal.sync()


@contextmanager
def open_ledger(place: Place, budget: Budget, *, alone: bool = False, most: int | None = None) -> Iterator[Ledger]:
    """The ledger of a stage, closed after the block. Raises as `Ledger` does."""
    ledger = Ledger(place, budget, alone=alone, most=most)
    try:
        yield ledger
    finally:
        ledger.close()


def finish_ledger(place: Place) -> str:
    """Say that a stage is done: the next run of it pays anew, into a new journal. Returns what it came to, in words."""
    with open_ledger(place, Budget(), most=0) as ledger:
        ledger.finish()
        return ledger.told()


def _unfinished(place: Place) -> Path:
    """The newest journal of a stage and a setting where it is not finished, the next one otherwise."""
    stem = f"{place.stage}-{place.setting}"
    numbers = sorted(int(path.stem.rpartition("-")[2]) for path in place.folder.glob(f"{stem}-*.jsonl"))
    newest = place.folder / f"{stem}-{numbers[-1] if numbers else 1:04d}.jsonl"
    if newest.exists() and _last_line(newest).startswith(b'{"finished":'):
        return place.folder / f"{stem}-{numbers[-1] + 1:04d}.jsonl"
    return newest


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 200))
        return file.read().rstrip(b"\n").rpartition(b"\n")[2]


def _is_answer(row: Row) -> bool:
    return not Outcome(row["reply"]["outcome"]).is_failure


def _now() -> float:
    """Seconds since 1970, to the millisecond."""
    return round(time.time(), 3)
