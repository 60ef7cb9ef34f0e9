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


def calibrate(stated: np.ndarray, right: np.ndarray) -> Calibration | None:
    """Of chances and outcomes of one shape; chances are cut to 0 to 1. None where there are none.

    ECE: Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3: the gap between mean
    stated chance and observed share of every bin of equal width, weighted by its size. Brier 1950 (Monthly Weather
    Review 78). Raises ValueError when the shapes differ.
    """
    if stated.shape != right.shape:
        raise ValueError(f"{stated.shape} chances do not fit {right.shape} outcomes")
    chance, hit = np.clip(np.ravel(stated), 0.0, 1.0), np.ravel(right).astype(float)
    if not len(chance):
        return None
    place = np.minimum((chance * BINS).astype(int), BINS - 1)
    groups = [place == number for number in np.unique(place)]
    bins = tuple(Bin(float(chance[rows].mean()), float(hit[rows].mean()), int(rows.sum())) for rows in groups)
    return Calibration(
        ece=sum(item.n * abs(item.stated - item.observed) for item in bins) / len(chance),
        brier=float(np.mean((chance - hit) ** 2)), n=len(chance), bins=bins,
    )  # fmt: skip
