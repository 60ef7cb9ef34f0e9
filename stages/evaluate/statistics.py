"""How sure a figure is: bootstrap over questions, flips between two methods, many comparisons at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

GROUPS = 4_000
"""Most units that are resampled of one set."""
Values = Mapping[str, np.ndarray]
"""Data set -> one value a question, in the order of the test set."""


@dataclass(frozen=True)
class Interval:
    """An estimate between its confidence limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Flips:
    """Questions on which two methods differ in exact match."""

    won: int
    """Right by the first only."""
    lost: int
    """Right by the second only."""
    p: float
    """Of McNemar's exact test: how probable a split as uneven as this is, were both as good."""


def flips(ours: Values, theirs: Values) -> Flips:
    """McNemar's exact test (McNemar 1947, Psychometrika 12): a binomial test on the questions where the two differ.

    Raises ValueError when the two do not hold the same number of questions a set: a dropped one would bend the result.
    """
    check_paired(ours, theirs)
    gaps = np.concatenate([ours[name] - theirs[name] for name in ours])
    won, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Flips(won, lost, float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0)


def check_paired(ours: Values, theirs: Values) -> None:
    """Raises ValueError naming the first set of which the two do not hold the same number of questions."""
    for name in sorted({*ours, *theirs}):
        sizes = [len(values[name]) if name in values else 0 for values in (ours, theirs)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{name} has {sizes[0]} questions of one method and {sizes[1]} of the other")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979, Scandinavian Journal of Statistics 6): adjusted p-values, in the order
    given. Compared with a level, they keep the chance of any false finding among all below it.
    """
    order = np.argsort(p_values, kind="stable")
    ranked = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(ranked))
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class _Weights:
    """Resamples of one set: how often each of its groups was drawn; of up to `GROUPS` questions, each is its own."""

    drawn: np.ndarray
    """(resamples, groups); shares of the questions where each is a group."""
    sizes: np.ndarray | None
    """Questions in a group, where they are grouped."""

    @classmethod
    def draw(cls, n: int, count: int, rng: np.random.Generator) -> _Weights:
        """`count` resamples of `n` questions."""
        groups = min(n, GROUPS)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        if groups == n:
            return cls(drawn / n, None)
        return cls(drawn.astype(np.min_scalar_type(int(drawn.max()))), _summed(np.ones(n)))

    def __matmul__(self, values: np.ndarray) -> np.ndarray:
        """The mean of each resample."""
        means: np.ndarray = (
            self.drawn @ values if self.sizes is None else (self.drawn @ _summed(values)) / (self.drawn @ self.sizes)
        )
        return means


def _summed(values: np.ndarray) -> np.ndarray:
    """Sums by group: every `GROUPS`th question is in the same one."""
    return np.bincount(np.arange(len(values)) % GROUPS, weights=values, minlength=GROUPS)


class Resamples:
    """Bootstrap resamples of the questions of each set, drawn once.

    Every method is measured on the same resamples, so that an interval of a difference between two methods is a paired
    bootstrap, and `average` resamples within each set (a stratified bootstrap). Limits are percentiles (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13).

    Of a set with more than `GROUPS` questions, groups of questions are resampled: as wide an interval, in memory that
    does not grow with the set.
    """

    def __init__(self, sizes: Mapping[str, int], count: int, confidence: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.confidence = confidence
        self._weights = {name: _Weights.draw(n, count, rng) for name, n in sorted(sizes.items())}
        self._count = count

    def mean(self, dataset: str, values: np.ndarray) -> Interval:
        """Mean over one set; `values` has one entry a question."""
        return self._interval(float(values.mean()), self._weights[dataset] @ values, values)

    def average(self, values: Values) -> Interval:
        """Unweighted mean of the means of the sets, as the paper reports it."""
        draws = np.mean([self._weights[name] @ column for name, column in values.items()], axis=0)
        centre = float(np.mean([column.mean() for column in values.values()]))
        return self._interval(centre, draws, np.concatenate(list(values.values())))

    def difference(self, ours: Values, theirs: Values) -> Interval:
        """Average of ours minus average of theirs, paired by question. Raises ValueError where they do not pair up."""
        check_paired(ours, theirs)
        gaps = {name: ours[name] - theirs[name] for name in ours}
        draws = np.mean([self._weights[name] @ column for name, column in gaps.items()], axis=0)
        return self._percentiles(float(np.mean([column.mean() for column in gaps.values()])), draws)

    def pooled(self, runs: Sequence[Values], seed: int) -> Interval:
        """Average over runs of several seeds on the same questions, runs and questions both resampled.

        The pigeonhole bootstrap of a crossed design (Owen 2007, Annals of Applied Statistics 1(2)): it does not fall
        short of the true spread. Raises ValueError where the runs do not hold the same questions.
        """
        for other in runs[1:]:
            check_paired(runs[0], other)
        count = self._count
        drawn = np.random.default_rng(seed).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=count)
        by_run = np.stack([np.mean([self._weights[name] @ run[name] for name in run], axis=0) for run in runs], axis=1)
        centre = float(np.mean([[column.mean() for column in run.values()] for run in runs]))
        return self._percentiles(centre, (by_run * drawn / len(runs)).sum(axis=1))

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
