"""The training curves that the train stage leaves, as small charts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.evaluate.report.charts import nice_ticks

TRAIN, VALIDATION = "train", "validation"
SHOWN = {
    "reward": ("Reward", False), "em": ("Exact match", True), "format": ("Well-formed", True),
    "calls": ("Calls a question", False), "cost": ("Cost a question", False), "entropy": ("Policy entropy", False),
    "kl": ("KL to the warm start", False),
}  # fmt: skip

Line = Sequence[tuple[float, float]]
"""(step, value), in the order of steps."""
Curves = Mapping[str, Mapping[str, Line]]
"""Column -> phase (`train` or `validation`) -> line."""


@dataclass(frozen=True)
class Panel:
    """One measure over training steps, in a box of 100 x 100."""

    title: str
    train: str
    """Path of the training batches; empty without any."""
    validation: str
    dots: str
    """Path of a dot for each validation."""
    change: str
    """From the first value to the last, of validation where there is any."""
    low: str
    high: str
    first_step: str
    last_step: str


def read_curves(path: Path) -> Curves:
    """The numbers of curves.csv (columns `step`, `phase` and measures); nothing where there is no such file."""
    if not path.is_file():
        return {}
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            for name in SHOWN:
                if row.get(name):
                    curves.setdefault(name, {}).setdefault(row["phase"], []).append(
                        (float(row["step"]), float(row[name]))
                    )
    return curves


def panels(curves: Curves) -> list[Panel]:
    """A chart for each measure that was taken at two steps or more."""
    found = [(title, share, curves.get(name, {})) for name, (title, share) in SHOWN.items()]
    return [_panel(title, lines, share) for title, share, lines in found if len(_steps(lines)) > 1]


def _panel(title: str, lines: Mapping[str, Line], share: bool) -> Panel:
    low, high = (0.0, 1.0) if share else _padded([value for line in lines.values() for _, value in line])
    steps = _steps(lines)

    def place(line: Line) -> list[str]:
        """Points in percent of the panel, from its upper left corner."""
        across, up = max(steps[-1] - steps[0], 1e-9), high - low
        return [f"{100 * (x - steps[0]) / across:.2f} {100 * (1 - (y - low) / up):.2f}" for x, y in line]

    train, validation = place(lines.get(TRAIN, ())), place(lines.get(VALIDATION, ()))
    told = lines.get(VALIDATION) or lines[TRAIN]
    shown = (lambda value: f"{100 * value:.0f} %") if share else (lambda value: f"{value:.3g}")
    change = " → ".join(dict.fromkeys(shown(value) for value in (told[0][1], told[-1][1])))
    dots = "".join(f"M{point}h0" for point in validation)
    ends = (shown(low), shown(high), f"{steps[0]:g}", f"{steps[-1]:g}")
    return Panel(title, _path(train), _path(validation), dots, change, *ends)


def _path(points: Sequence[str]) -> str:
    return "M" + " L".join(points) if points else ""


def _steps(lines: Mapping[str, Line]) -> list[float]:
    return sorted({step for line in lines.values() for step, _ in line})


def _padded(values: Sequence[float]) -> tuple[float, float]:
    ticks = nice_ticks(min(values), max(values), 3)
    return (ticks[0], ticks[-1]) if len(ticks) > 1 else (ticks[0] - 1, ticks[0] + 1)
