"""How a run shows itself: a live list of stages on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stages.shared.progress import Snapshot

MARKS = {
    "waiting": Text("·", style="dim"),
    "current": Text("✓", style="dim"),
    "unchanged": Text("✓", style="dim"),
    "restored": Text("✓", style="cyan"),
    "ran": Text("✓", style="green"),
    "failed": Text("✗", style="red"),
}
WORDS = {"restored": "restored from DVC's cache", "unchanged": "unchanged", "current": "unchanged", "waiting": ""}


@dataclass
class StageView:
    """What the display knows of one stage."""

    state: str = "waiting"
    start: float = 0.0
    seconds: float = 0.0
    snapshot: Snapshot | None = None


class PlainDisplay:
    """One line an event, and the stages' own lines, for logs and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def planned(self, stages: Sequence[str], stale: Sequence[str]) -> None:
        """One line."""
        self._print(f"To run: {', '.join(stale)}." if stale else "Nothing to run.")

    def said(self, text: str) -> None:
        """Print it."""
        self._print(text)

    def started(self, stage: str) -> None:
        """Say so, and take the time."""
        self._start = time.monotonic()
        self._print(f"==> {stage}")

    def line(self, stage: str, text: str) -> None:
        """Print the stage's own line."""
        self._print(f"    {text}")

    def progress(self, stage: str, snapshot: Snapshot | None) -> None:
        """The stage's own lines say it."""

    def ended(self, stage: str, result: str) -> None:
        """Say how, and how long it took."""
        self._print(f"    {stage}: {WORDS.get(result, result)}, {time.monotonic() - self._start:.0f} s")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A list of stages with state, seconds and progress, drawn over itself."""

    def __init__(self, console: Console, stages: Sequence[str], stale: Sequence[str]) -> None:
        self._views = {stage: StageView("waiting" if stage in stale else "current") for stage in stages}
        self._spinner = Spinner("dots")
        self._last = ""
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last = ""
        self._live.__exit__(kind, error, trace)

    def planned(self, stages: Sequence[str], stale: Sequence[str]) -> None:
        """The rows are known now."""
        self._views = {stage: StageView("waiting" if stage in stale else "current") for stage in stages}

    def said(self, text: str) -> None:
        """Stands above the list, and stays."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, stage: str) -> None:
        """The stage's row begins to turn."""
        self._views[stage] = StageView("running", time.monotonic())

    def line(self, stage: str, text: str) -> None:
        """The last line stands below the list."""
        self._last = text or self._last

    def progress(self, stage: str, snapshot: Snapshot | None) -> None:
        """The stage's bar moves."""
        self._views[stage].snapshot = snapshot

    def ended(self, stage: str, result: str) -> None:
        """The stage's row stands still."""
        view = self._views[stage]
        view.state, view.seconds, self._last = result, time.monotonic() - view.start, ""

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for stage, view in self._views.items():
            table.add_row(*self._cells(stage, view))
        return Group(table, Text(self._last, style="dim", overflow="ellipsis", no_wrap=True))

    def _cells(self, stage: str, view: StageView) -> tuple[RenderableType, ...]:
        if view.state != "running":
            seconds = f"{view.seconds:.0f} s" if view.seconds else ""
            return MARKS[view.state], stage, seconds, "", WORDS.get(view.state, "")
        seconds, snapshot = f"{time.monotonic() - view.start:.0f} s", view.snapshot
        if snapshot is None or not snapshot.total:
            return self._spinner, Text(stage, style="bold"), seconds, "", snapshot.unit if snapshot else ""
        bar = ProgressBar(total=snapshot.total, completed=snapshot.done, width=30)
        return (
            self._spinner,
            Text(stage, style="bold"),
            seconds,
            bar,
            f"{snapshot.done}/{snapshot.total} {snapshot.unit}",
        )


Display = PlainDisplay | LiveDisplay


def make_display(console: Console, stages: Sequence[str], stale: Sequence[str]) -> Display:
    """A live list where the console is a terminal, plain lines elsewhere."""
    return LiveDisplay(console, stages, stale) if console.is_terminal else PlainDisplay(console)
