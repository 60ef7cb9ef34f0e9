"""KNN Router: the candidate that did best on the most similar profiling questions.

RouterBench (Hu et al. 2024, arXiv 2403.12031, section 5.1), as Router-R1 takes it for a baseline.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams


def fit_knn(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Each candidate's mean score over the nearest questions (cosine), `evaluate.neighbours` of them."""

    def estimate(asked: Asked) -> np.ndarray:
        """Means over the neighbourhood of each question."""
        near = asked.vectors @ history.vectors.T
        means: np.ndarray = history.scores[nearest(near, min(params.neighbours, near.shape[1]))].mean(axis=1)
        return means

    return EstimatingRouter(history, estimate)


def nearest(near: np.ndarray, count: int) -> np.ndarray:
    """(rows, count): places of the greatest values of each row, the greatest first and of equals the first.

    Only what reaches the last of them is sorted: records have thousands of questions, a neighbourhood ten.
    """
    least = np.partition(near, -count, axis=1)[:, -count]
    places = [np.flatnonzero(row >= bound) for row, bound in zip(near, least, strict=True)]
    ordered = [found[np.argsort(-row[found], kind="stable")][:count] for row, found in zip(near, places, strict=True)]
    return np.array(ordered, dtype=int).reshape(len(near), count)
