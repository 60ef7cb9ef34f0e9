"""Whether a stated chance of a right reply can be taken at its word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from stages.evaluate.routers.estimating import Estimate
from stages.evaluate.routers.history import History

STATED = frozenset({"knn", "mlp", "bert", "graphrouter", "irt-router", "correctness", "routoo"})
"""Methods whose estimate of a candidate is its chance to be right; those of others rank candidates, and no more."""
TABLE = "prompt"
"""The skills that the prompt shows, which is what the router knows of candidates; on single-hop questions."""
BINS = 10


@runtime_checkable
class Estimating(Protocol):
    """A router that estimates every candidate of its history."""

    @property
    def history(self) -> History:
        """What it was fitted on."""
        ...

    @property
    def estimate(self) -> Estimate:
        """Questions -> (questions, candidates)."""
        ...


@dataclass(frozen=True)
class Bin:
    """The pairs of question and candidate whose stated chance lies in one tenth."""

    stated: float
    """Mean."""
    observed: float
    """Share of replies that hold a gold answer."""
    n: int


@dataclass(frozen=True)
class Calibration:
    """How far stated chances are from what came of them."""

    ece: float
    """Expected calibration error."""
    brier: float
    """Mean squared error of the stated chance, 0 for a prophet."""
    n: int
    """Pairs of question and candidate."""
    bins: tuple[Bin, ...]
    """The tenths that hold any."""


class Tally:
    """Stated chances and what came of them, summed up by tenths, however many there are.

    ECE: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3: the gap between mean
    stated chance and observed share of every bin of equal width, weighted by its size. Brier 1950 (Monthly Weather
    Review 78).
    """

    def __init__(self) -> None:
        self._bins: dict[int, Bin] = {}
        self._brier, self._n = 0.0, 0

    def add(self, stated: np.ndarray, right: np.ndarray) -> None:
        """Chances, cut to 0 to 1, and outcomes of one shape. Raises ValueError when the shapes differ."""
        if stated.shape != right.shape:
            raise ValueError(f"{stated.shape} chances do not fit {right.shape} outcomes")
        chance, hit = np.clip(np.ravel(stated), 0.0, 1.0), np.ravel(right).astype(float)
        place = np.minimum((chance * BINS).astype(int), BINS - 1)
        for number in np.unique(place):
            rows = place == number
            more = Bin(float(chance[rows].mean()), float(hit[rows].mean()), int(rows.sum()))
            self._bins[int(number)] = _joined(self._bins.get(int(number), Bin(0.0, 0.0, 0)), more)
        if len(chance):
            self._n += len(chance)
            self._brier += (float(np.mean((chance - hit) ** 2)) - self._brier) * (len(chance) / self._n)

    @property
    def calibration(self) -> Calibration | None:
        """Of all that was added; None where that is nothing."""
        if not self._n:
            return None
        bins = tuple(self._bins[number] for number in sorted(self._bins))
        ece = sum(item.n * abs(item.stated - item.observed) for item in bins) / self._n
        return Calibration(ece=ece, brier=self._brier, n=self._n, bins=bins)


def _joined(known: Bin, more: Bin) -> Bin:
    """The means of both together: of the second alone, to the last bit, where the first is empty."""
    n = known.n + more.n
    share = more.n / n
    return Bin(
        known.stated + (more.stated - known.stated) * share,
        known.observed + (more.observed - known.observed) * share, n,
    )  # fmt: skip
