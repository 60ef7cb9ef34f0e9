"""ACAR: how far three probes disagree decides whether one, two or three candidates are asked.

Kumaresan, ACAR: Adaptive Complexity Routing for Multi-Model Ensembles (arXiv 2602.21231): sigma, the variance of the
answers of N = 3 probes, is 0 when all agree, 1/2 when two do, 1 when none do, and stands for one, two or three models;
nothing is learned. The paper probes one model three times; records hold one reply a candidate, so that the three
cheapest candidates are the probes here, and where they agree their reply is the single model's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluate.routers.consistency import agree
from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice, Reply
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams

PROBES = 3


@dataclass(frozen=True)
class VarianceRouter:
    """Probes first; then none, the two or the three strongest, of whom the one with most on its side is taken."""

    history: History
    strongest: tuple[int, ...]
    """Three places, the best mean score first."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """Three to six calls a question, whatever the thrift. Raises DataError without replies to compare."""
        if asked.reply is None:
            raise DataError("acar compares replies, and there are none")
        return [self._one(index, asked.reply) for index in range(len(asked.questions))]

    def without(self, gone: Collection[str]) -> VarianceRouter:
        """The next cheapest are the probes, the next strongest vote: read off the records, nothing is learned."""
        return ranked(self.history.only(self.history.kept(gone)))

    def _one(self, index: int, reply: Reply) -> Choice:
        names = self.history.candidates
        texts = [reply(index, names[place]) for place in range(PROBES)]
        more = {0.0: 0, 0.5: 2, 1.0: 3}[sigma(texts)]
        if not more:
            return self._choice(tuple(range(PROBES)), 0)
        arena = self.strongest[:more]
        called = tuple(dict.fromkeys((*range(PROBES), *arena)))
        taken = majority([reply(index, names[place]) for place in arena])
        return self._choice(called, arena[taken])

    def _choice(self, called: tuple[int, ...], taken: int) -> Choice:
        names = self.history.candidates
        cost = float(self.history.mean_costs[list(called)].sum())
        return Choice(tuple(names[place] for place in called), names[taken], cost)


def fit_acar(history: History, params: EvaluateParams) -> VarianceRouter:
    """Nothing is learned. Raises DataError without replies, or with fewer than three candidates."""
    return ranked(history)


def ranked(history: History) -> VarianceRouter:
    """Who is strongest on the records. Raises DataError without replies, or with fewer than three candidates."""
    if history.replies is None:
        raise DataError("acar compares replies, and these records hold scores only")
    if len(history.candidates) < PROBES:
        raise DataError(f"acar needs {PROBES} candidates to probe, and there are {len(history.candidates)}")
    order = np.argsort(-history.scores.mean(axis=0), kind="stable")
    return VarianceRouter(history, tuple(int(place) for place in order[:PROBES]))


def sigma(texts: Sequence[str]) -> float:
    """(distinct answers - 1) / (probes - 1); an answer is new when it agrees with none before it."""
    distinct: list[str] = []
    for text in texts:
        if not any(agree(text, known) for known in distinct):
            distinct.append(text)
    return (len(distinct) - 1) / (len(texts) - 1)


def majority(texts: Sequence[str]) -> int:
    """Place of the reply that most others agree with; of equals the first, which is the strongest candidate's."""
    votes = [sum(agree(text, other) for other in texts) for text in texts]
    return votes.index(max(votes))
