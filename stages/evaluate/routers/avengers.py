"""Avengers-Pro: clusters of questions, and for each the candidates ranked by performance and thrift.

Zhang et al., Beyond GPT-5: Making LLMs Cheaper and Better via Performance-Efficiency Optimized Routing (arXiv
2508.12631), section 2: x = alpha p + (1 - alpha)(1 - q) with p and q, a cluster's mean scores and costs, each stretched
to 0..1 over the candidates; a question sums x over its nearest clusters. Here alpha = 1 - thrift.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.cluster import KMeans

from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice, single
from stages.shared.params import EvaluateParams

CLUSTERS, NEAREST, LEAST = 60, 4, 10
"""The paper's number of clusters, and of those that a question looks at (fewer of fewer); least mean size of one."""


@dataclass(frozen=True)
class ClusterRouter:
    """What every cluster thinks of every candidate."""

    history: History
    centres: np.ndarray
    """(clusters, dimensions)."""
    performance: np.ndarray
    """(clusters, candidates), 0 to 1."""
    expense: np.ndarray
    """(clusters, candidates), 0 to 1."""
    scores: np.ndarray
    """(clusters, candidates): means, from which performance is stretched anew when candidates join."""
    costs: np.ndarray
    """(clusters, candidates)."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One call a question."""
        worth = (1 - thrift) * self.performance + thrift * (1 - self.expense)
        distance = distances(asked.vectors, self.centres)
        count = max(1, round(NEAREST * len(self.centres) / CLUSTERS))
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
        return single(self.history, np.argmax(worth[nearest].sum(axis=1), axis=1))

    def without(self, gone: Collection[str]) -> ClusterRouter:
        """Every cluster thinks of the others as before."""
        kept = self.history.kept(gone)
        return replace(
            self, history=self.history.only(kept), performance=self.performance[:, kept], expense=self.expense[:, kept],
            scores=self.scores[:, kept], costs=self.costs[:, kept],
        )  # fmt: skip

    def joined(self, new: Sequence[History]) -> ClusterRouter:
        """With candidates by records of their own; a cluster that these never reach takes their mean over all."""
        history = self.history.averaged(new)
        names = [name for part in (self.history, *new) for name in part.candidates]
        order = [names.index(name) for name in history.candidates]
        scores = np.column_stack([self.scores, *(self._by_cluster(part, part.scores) for part in new)])[:, order]
        costs = np.column_stack([self.costs, *(self._by_cluster(part, part.costs) for part in new)])[:, order]
        return ClusterRouter(history, self.centres, stretched(scores), stretched(costs), scores, costs)

    def _by_cluster(self, part: History, values: np.ndarray) -> np.ndarray:
        """(clusters, candidates): means of (questions, candidates)."""
        nearest = distances(part.vectors, self.centres).argmin(axis=1)
        reached = [nearest == number for number in range(len(self.centres))]
        return np.stack([values[rows if rows.any() else slice(None)].mean(axis=0) for rows in reached])


def fit_avengers(history: History, params: EvaluateParams) -> ClusterRouter:
    """K-means over the embeddings, then means a cluster."""
    count = min(CLUSTERS, max(1, len(history.questions) // LEAST))
    clusters = KMeans(count, n_init=1, random_state=params.seed).fit(history.vectors)
    used = np.unique(clusters.labels_)  # questions that are all alike fill fewer clusters than were asked for
    members = [clusters.labels_ == number for number in used]
    scores = np.stack([history.scores[rows].mean(axis=0) for rows in members])
    costs = np.stack([history.costs[rows].mean(axis=0) for rows in members])
    return ClusterRouter(history, clusters.cluster_centers_[used], stretched(scores), stretched(costs), scores, costs)


def distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(questions, clusters), squared; row by row, since all differences at once would take gigabytes."""
    rows = [((centres - vector) ** 2).sum(axis=1) for vector in vectors]
    return np.array(rows).reshape(len(rows), len(centres))


def stretched(values: np.ndarray) -> np.ndarray:
    """Every row from 0 for its least to 1 for its greatest; a row of equals is 0 throughout."""
    low, span = values.min(axis=1, keepdims=True), np.ptp(values, axis=1, keepdims=True)
    found: np.ndarray = np.divide(values - low, span, out=np.zeros_like(values, dtype=float), where=span > 0)
    return found
