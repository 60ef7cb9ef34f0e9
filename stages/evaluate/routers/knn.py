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
        k = min(params.neighbours, near.shape[1])
        nearest = np.argsort(-near, axis=1, kind="stable")[:, :k]
        means: np.ndarray = history.scores[nearest].mean(axis=1)
        return means

    return EstimatingRouter(history, estimate)
