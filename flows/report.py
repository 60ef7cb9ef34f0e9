"""What a run came to: the metrics files as rows to show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shared.errors import IntegrityError

HEADINGS = ("method", "EM", "interval", "F1", "cost", "calls")


@dataclass(frozen=True)
class Row:
    """A method's average over the test sets, as text."""

    method: str
    em: str
    interval: str
    f1: str
    cost: str
    calls: str

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEADINGS`."""
        return (self.method, self.em, self.interval, self.f1, self.cost, self.calls)


def read_metrics(root: Path) -> dict[str, Any]:
    """Stage -> its metrics, of the stages that have any. Raises IntegrityError for a file that is not JSON."""
    found = {}
    for path in sorted((root / "metrics").glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise IntegrityError(f"{path} is not JSON: {error}; run its stage again") from error
    return found


def rows(metrics: dict[str, Any]) -> list[Row]:
    """The table of methods from metrics/evaluate.json, best exact match first; empty before the first evaluation."""
    methods = metrics.get("evaluate", {}).get("methods", {})
    averages = {name: sets["average"] for name, sets in methods.items() if "average" in sets}
    best = sorted(averages.items(), key=lambda item: item[1]["em"], reverse=True)
    return [_row(name, values) for name, values in best]


def markdown(headings: Sequence[str], table: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *table)]
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any]) -> Row:
    low, high = values.get("em_low"), values.get("em_high")
    return Row(
        method=name,
        em=_number(values["em"], 3),
        interval="" if low is None or high is None else f"{low:.3f} to {high:.3f}",
        f1=_number(values.get("f1"), 3),
        cost=_number(values.get("cost"), 1),
        calls=_number(values.get("calls"), 2),
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
