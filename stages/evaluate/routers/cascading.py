"""Cascade routing: after every reply, ask on and whom, or take the best reply so far.

Dekoninck, Baader and Vechev, A Unified Approach to Routing and Cascading for LLMs (ICML 2025, arXiv 2410.10347),
section 4: quality is estimated before a candidate is asked and again from its reply; asking on is worth the expected
maximum of what is had and what may come, less lambda times the cost. The paper weighs sets of candidates; one more is
weighed at a time here. Estimates are the classifiers of `correctness` before a reply, FrugalGPT's scorers after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from stages.evaluate.routers.correctness import fit_correctness
from stages.evaluate.routers.estimating import Estimate, columns
from stages.evaluate.routers.frugalgpt import features, fit_scorers, trust
from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams

LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Quality that the dearest candidate's cost is worth: what is tried."""
Look = Callable[[np.ndarray, int], np.ndarray]
"""(rows, place of a candidate) -> trust in its replies."""


@dataclass(frozen=True)
class Path:
    """Who was asked about one question, in order, and whose reply is trusted most."""

    called: tuple[int, ...]
    taken: int


@dataclass(frozen=True)
class CascadingRouter:
    """Asks as long as another reply is worth more than it costs."""

    history: History
    before: Estimate
    """The estimate of quality before a reply."""
    scorers: tuple[Any, ...]
    spread: np.ndarray
    """(candidates,): how far trust strays from that estimate."""
    weight: float
    """Lambda, of the dearest candidate's cost."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """As many calls as are worth it, the more thrift the fewer. Raises DataError without replies to look at."""
        reply = asked.reply
        if reply is None:
            raise DataError("cascade-routing looks at replies before it asks on, and there are none")
        names, costs = self.history.candidates, self.history.mean_costs

        def look(rows: np.ndarray, place: int) -> np.ndarray:
            """Ask that candidate about those questions."""
            texts = [reply(int(row), names[place]) for row in rows]
            return trust(self.scorers[place], features(asked.vectors[rows], texts))

        weight = max(self.weight, thrift / max(1 - thrift, 1e-9))
        found = walk(self.before(asked), self.spread, relative(costs) * weight, look)
        return [
            Choice(tuple(names[place] for place in path.called), names[path.taken], float(costs[[*path.called]].sum()))
            for path in found
        ]

    def without(self, gone: Collection[str]) -> CascadingRouter:
        """The others are estimated and trusted as before, and a dollar is worth as much quality as before."""
        kept = self.history.kept(gone)
        history = self.history.only(kept)
        weight = self.weight * float(history.mean_costs.max() / (self.history.mean_costs.max() or 1.0))
        scorers = tuple(self.scorers[place] for place in kept)
        return CascadingRouter(history, columns(self.before, kept), scorers, self.spread[kept], weight)

    def joined(self, new: Sequence[CascadingRouter]) -> CascadingRouter:
        """With candidates that routers of their own were fitted on; a dollar is worth as much quality as before."""
        parts = (self, *new)
        names = [name for part in parts for name in part.history.candidates]
        history = self.history.averaged([part.history for part in new])
        order = [names.index(name) for name in history.candidates]
        scorers = [scorer for part in parts for scorer in part.scorers]

        def before(asked: Asked) -> np.ndarray:
            """The estimates of all of them."""
            found: np.ndarray = np.concatenate([part.before(asked) for part in parts], axis=1)[:, order]
            return found

        return CascadingRouter(
            history, before, tuple(scorers[place] for place in order),
            np.concatenate([part.spread for part in parts])[order],
            self.weight * float(history.mean_costs.max() / (self.history.mean_costs.max() or 1.0)),
        )  # fmt: skip


def fit_cascading(history: History, params: EvaluateParams) -> CascadingRouter:
    """Take the lambda that did best on the records, the greatest of equals. Raises DataError without enough replies."""
    scorers, given = fit_scorers(history, "cascade-routing")
    before = fit_correctness(history, params).estimate
    expected = before(Asked(history.questions, history.vectors))
    spread = np.maximum((given - expected).std(axis=0), 1e-6)
    costs = relative(history.mean_costs)

    def reward(weight: float) -> float:
        """Mean score over the records."""
        found = walk(expected, spread, costs * weight, lambda rows, place: given[rows, place])
        return float(np.mean([history.scores[row, path.taken] for row, path in enumerate(found)]))

    best = max(LAMBDAS, key=lambda weight: (reward(weight), weight))
    return CascadingRouter(history, before, tuple(scorers), spread, best)


def walk(expected: np.ndarray, spread: np.ndarray, price: np.ndarray, look: Look) -> list[Path]:
    """Ask every question on until nothing is worth it.

    `expected`: (questions, candidates); `spread`, `price`: (candidates,), the price in units of quality.
    """
    count, width = expected.shape
    best, taken = np.full(count, -np.inf), np.zeros(count, dtype=int)
    called: list[tuple[int, ...]] = [()] * count
    unasked = np.ones((count, width), dtype=bool)
    waiting = np.arange(count)
    for _ in range(width):
        had = best[waiting, None]
        gain = np.where(np.isinf(had), expected[waiting], improvement(expected[waiting], spread, had)) - price
        gain = np.where(unasked[waiting], gain, -np.inf)
        worth = np.isinf(had[:, 0]) | (gain.max(axis=1) > 0)
        waiting, pick = waiting[worth], gain.argmax(axis=1)[worth]
        for place in np.unique(pick):
            rows = waiting[pick == place]
            seen = look(rows, int(place))
            better = rows[seen > best[rows]]
            best[better], taken[better] = seen[seen > best[rows]], place
            unasked[rows, place] = False
            for row in rows:
                called[row] = (*called[row], int(place))
    return [Path(called[row], int(taken[row])) for row in range(count)]


def improvement(expected: np.ndarray, spread: np.ndarray, had: np.ndarray) -> np.ndarray:
    """E[max(had, N(expected, spread))] - had."""
    score = (expected - np.where(np.isinf(had), 0.0, had)) / spread
    found: np.ndarray = spread * (score * norm.cdf(score) + norm.pdf(score))
    return found


def relative(costs: np.ndarray) -> np.ndarray:
    """As shares of the dearest."""
    shares: np.ndarray = costs / (costs.max() or 1.0)
    return shares
