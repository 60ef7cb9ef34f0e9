"""RouterArena's score, and how near to optimal a method chooses.

Lu et al., RouterArena: An Open Platform for Comprehensive Comparison of LLM Routers (arXiv 2510.00202), section on
metrics. With these constants the score gives back rows of its leaderboard (a test holds four); the denominators of the
three optimality figures are our reading of the text, not compared with its code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BETA, DEAREST, CHEAPEST = 0.1, 200.0, 0.0044
"""Weight of the cost, and the range of costs, USD per 1,000 questions."""
MILLIONTHS_TO_THOUSAND = 1e-3
"""Millionths of a dollar a question -> dollars per 1,000 questions."""


@dataclass(frozen=True)
class Optimality:
    """Shares between 0 and 1; None where the denominator is empty."""

    selection: float | None
    """Of the questions that some way through the pool answers: answered, at no more than the cheapest right cost."""
    cost: float | None
    """Over the questions answered right: the cheapest right cost divided by the cost paid."""
    accuracy: float | None
    """Right answers divided by those that the pool could give."""


def arena_score(accuracy: float, cost: float) -> float:
    """S = (1 + beta) A C / (beta A + C), C = log2(c_max / c) / log2(c_max / c_min), c clipped to its range.

    `accuracy` between 0 and 1, `cost` in millionths of a dollar a question.
    """
    priced = min(DEAREST, max(CHEAPEST, cost * MILLIONTHS_TO_THOUSAND))
    thrift = math.log2(DEAREST / priced) / math.log2(DEAREST / CHEAPEST)
    if not accuracy or not thrift:
        return 0.0
    return (1 + BETA) * accuracy * thrift / (BETA * accuracy + thrift)


def optimality(
    right: Sequence[float] | np.ndarray, paid: Sequence[float] | np.ndarray,
    possible: Sequence[float] | np.ndarray, least: Sequence[float] | np.ndarray,
) -> Optimality:  # fmt: skip
    """The three figures, question by question against an oracle: `possible` and `least` are its EM and cost."""
    won, could = np.asarray(right) == 1.0, np.asarray(possible) == 1.0
    cost, bound = np.asarray(paid, dtype=float), np.asarray(least, dtype=float)
    frugal, both = won & (cost <= bound * (1 + 1e-9)), won & could
    return Optimality(
        selection=_ratio(float((frugal & could).sum()), float(could.sum())),
        cost=_ratio(float(bound[both].sum()), float(cost[both].sum())),
        accuracy=_ratio(float(won.sum()), float(could.sum())),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
