"""Confidence intervals by bootstrap over questions, with the same resamples for every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

Values = Mapping[str, np.ndarray]
"""Data set -> one value a question, in the order of the test set."""


@dataclass(frozen=True)
class Interval:
    """An estimate between its confidence limits."""

    value: float
    low: float
    high: float


class Resamples:
    """Bootstrap resamples of the questions of each set, drawn once.

    Every method is measured on the same resamples, so that an interval of a difference between two methods is a paired
    bootstrap, and `average` resamples within each set (a stratified bootstrap). Limits are percentiles (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13).
    """

    def __init__(self, sizes: Mapping[str, int], count: int, confidence: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.confidence = confidence
        self._weights = {
            name: rng.multinomial(n, np.full(n, 1 / n), size=count) / n for name, n in sorted(sizes.items())
        }

    def mean(self, dataset: str, values: np.ndarray) -> Interval:
        """Mean over one set; `values` has one entry a question."""
        return self._interval(float(values.mean()), self._weights[dataset] @ values, values)

    def average(self, values: Values) -> Interval:
        """Unweighted mean of the means of the sets, as the paper reports it."""
        draws = np.mean([self._weights[name] @ column for name, column in values.items()], axis=0)
        centre = float(np.mean([column.mean() for column in values.values()]))
        return self._interval(centre, draws, np.concatenate(list(values.values())))

    def difference(self, ours: Values, theirs: Values) -> Interval:
        """Average of ours minus average of theirs, paired by question."""
        gaps = {name: ours[name] - theirs[name] for name in ours}
        draws = np.mean([self._weights[name] @ column for name, column in gaps.items()], axis=0)
        return self._percentiles(float(np.mean([column.mean() for column in gaps.values()])), draws)

    def _interval(self, centre: float, draws: np.ndarray, values: np.ndarray) -> Interval:
        if values.min() == values.max() and values[0] in (0.0, 1.0):
            return self._wilson(int(values.sum()), len(values))
        return self._percentiles(centre, draws)

    def _percentiles(self, centre: float, draws: np.ndarray) -> Interval:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        return Interval(centre, float(low), float(high))

    def _wilson(self, successes: int, n: int) -> Interval:
        """Where every question came out the same, resampling sees no spread: Wilson's score interval instead."""
        limits = binomtest(successes, n).proportion_ci(self.confidence, method="wilson")
        return Interval(successes / n, float(limits.low), float(limits.high))
