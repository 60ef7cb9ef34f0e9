"""What candidates were said to be worth against what they were: a small chart for each method that states a chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from stages.evaluate.calibration import TABLE, Calibration
from stages.evaluate.methods import describe

LARGEST = 9.0
"""Radius in pixels of a dot that holds every pair."""


@dataclass(frozen=True)
class Dot:
    """One bin; x and y in percent of the chart, y downwards."""

    x: float
    y: float
    radius: float
    title: str


@dataclass(frozen=True)
class Reliability:
    """One method."""

    label: str
    ece: float
    brier: float
    n: int
    dots: tuple[Dot, ...]


def reliabilities(found: Mapping[str, Calibration]) -> list[Reliability]:
    """The prompt's table first, then methods, the best calibrated first."""
    order = sorted(found, key=lambda name: (name != TABLE, found[name].ece))
    return [_chart("The prompt's table" if name == TABLE else describe(name).label, found[name]) for name in order]


def _chart(label: str, item: Calibration) -> Reliability:
    dots = tuple(
        Dot(
            round(100 * tenth.stated, 2), round(100 * (1 - tenth.observed), 2),
            round(max(2.0, LARGEST * sqrt(tenth.n / item.n)), 2),
            f"stated {100 * tenth.stated:.0f} %, right {100 * tenth.observed:.0f} % of {tenth.n}",
        )
        for tenth in item.bins
    )  # fmt: skip
    return Reliability(label, item.ece, item.brier, item.n, dots)
