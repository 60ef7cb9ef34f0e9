"""Routers that estimate how well each candidate would do, and weigh that against what it costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluate.routers.history import History, finite
from stages.evaluate.routers.protocol import Asked, Choice, single

Estimate = Callable[[Asked], np.ndarray]
"""Questions -> (questions, candidates): how well each candidate of the history would do, about 0 to 1."""


@dataclass(frozen=True)
class EstimatingRouter:
    """The candidate with the best estimate, less its cost; ties go to the cheaper.

    RouterBench (Hu et al. 2024, arXiv 2403.12031, section 5.1): lambda x performance - cost. Here with weights that add
    up to 1, and the cost as a share of the dearest candidate's: (1 - thrift) x estimate - thrift x cost.
    """

    history: History
    estimate: Estimate

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One call a question. Raises DataError when an estimate is no number."""
        estimates = finite("estimate", self.estimate(asked), self.history.candidates)
        costs = self.history.mean_costs
        worth = (1 - thrift) * estimates - thrift * costs / (costs.max() or 1.0)
        return single(self.history, np.argmax(worth, axis=1))

    def without(self, gone: Collection[str]) -> EstimatingRouter:
        """The others are estimated as before."""
        kept = self.history.kept(gone)
        return EstimatingRouter(self.history.only(kept), columns(self.estimate, kept))


@dataclass(frozen=True)
class Enlarged:
    """A router with candidates beside those that it was fitted on."""

    candidates: tuple[str, ...]
    costs: np.ndarray
    """(candidates,), expected of a question."""
    estimate: Estimate

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """For each question the candidate with the best estimate, of equals the cheaper; `thrift` has no say.

        Raises DataError when an estimate is no number.
        """
        estimates = finite("estimate", self.estimate(asked), self.candidates)
        order = np.argsort(self.costs, kind="stable")
        places = order[np.argmax(estimates[:, order], axis=1)]
        return [Choice((self.candidates[place],), self.candidates[place], float(self.costs[place])) for place in places]


def columns(estimate: Estimate, places: Sequence[int]) -> Estimate:
    """An estimate of some of the candidates alone."""
    return lambda asked: estimate(asked)[:, places]
