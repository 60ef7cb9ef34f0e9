"""How far a stage is, for the person in front of it and for the flow behind it."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from stages.shared.files import read_json, write_json

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_EVERY_S = 5.0
FILE_EVERY_S = 1.0
FOLDER = Path(".pointsman") / "progress"


@dataclass(frozen=True)
class Snapshot:
    """One reading of a stage's progress."""

    done: int
    total: int | None
    unit: str
    note: str
    seconds: float

    def __str__(self) -> str:
        """For example `120/1600 calls, 12 s, Arlix`."""
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        return f"{count} {self.unit}, {self.seconds:.0f} s" + (f", {self.note}" if self.note else "")


def read_progress(stage: str, root: Path = Path()) -> Snapshot | None:
    """The last reading that a stage left, or None where there is none."""
    try:
        return Snapshot(**read_json(root / FOLDER / f"{stage}.json"))
    except FileNotFoundError:
        return None


def say(text: str) -> None:
    """Print one plain line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A count towards a total: a bar on a terminal, else a line every few seconds; and a small file for the flow."""

    def __init__(self, stage: str, total: int | None, unit: str, *, note: str = "", root: Path = Path()) -> None:
        self._stage = stage
        self._total = total
        self._unit = unit
        self._path = root / FOLDER / f"{stage}.json"
        self._done = 0
        self._note = note
        self._start = self._file_due = self._line_due = time.monotonic()
        self._bar: Bar | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        self._line_due = self._start + LINE_EVERY_S
        if sys.stderr.isatty():
            self._bar = self._stack.enter_context(_bar())
            self._task = self._bar.add_task(self._stage, total=self._total, unit=self._unit, note=self._note)
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._stack.close()
        if self._bar is None:
            say(f"{self._stage}: {self.snapshot}")

    @property
    def snapshot(self) -> Snapshot:
        """Where it stands now."""
        return Snapshot(self._done, self._total, self._unit, self._note, round(time.monotonic() - self._start, 1))

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Count `by` more units done; `note` replaces the word beside the count."""
        self._done += by
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note)
        now = time.monotonic()
        if now >= self._file_due:
            self._write()
        if self._bar is None and now >= self._line_due:
            self._line_due = now + LINE_EVERY_S
            say(f"{self._stage}: {self.snapshot}")

    def _write(self) -> None:
        self._file_due = time.monotonic() + FILE_EVERY_S
        write_json(self._path, asdict(self.snapshot))


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = ("[bold]{task.description}", "{task.fields[unit]}", "[dim]{task.fields[note]}")
    name, unit, note = (TextColumn(column) for column in columns)
    return Progress(
        name, BarColumn(), MofNCompleteColumn(), unit, TimeElapsedColumn(), note, console=Console(stderr=True)
    )
