"""A classifier of its own for every candidate: will it be right on this question?

Shnitzer et al. (IBM), Large Language Model Routing with Benchmark Datasets (arXiv 2309.15789), section 3: correctness
predictors g_m(x). The paper averages them over the questions of a task and chooses once a task (score S1); a choice is
made here for each question, from the same predictors.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

RIGHT = 0.5
"""From this score on an answer counts as right."""


def fit_correctness(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Logistic regressions; a candidate that was always right, or never, is taken to stay so."""
    right = history.scores >= RIGHT
    models = [
        LogisticRegression(max_iter=1000).fit(history.vectors, column) if 0 < column.sum() < len(column) else column[0]
        for column in right.T
    ]

    def estimate(asked: Asked) -> np.ndarray:
        """P(right) of every candidate."""
        columns = [
            model.predict_proba(asked.vectors)[:, 1]
            if isinstance(model, LogisticRegression)
            else np.full(len(asked.questions), float(model))
            for model in models
        ]
        return np.stack(columns, axis=1)

    return EstimatingRouter(history, estimate)
