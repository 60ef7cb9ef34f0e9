"""MLP Router: a network that predicts every candidate's score from the question's embedding.

RouterBench (Hu et al. 2024, arXiv 2403.12031, section 5.1), as Router-R1 takes it for a baseline.
"""

from __future__ import annotations

import torch

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn_scores
from stages.shared.params import EvaluateParams

HIDDEN, DROPOUT = 100, 0.2


def fit_mlp(history: History, params: EvaluateParams) -> EstimatingRouter:
    """One hidden layer; cross-entropy against scores between 0 and 1."""
    torch.manual_seed(params.seed)
    width = history.vectors.shape[1]
    model = torch.nn.Sequential(
        torch.nn.Linear(width, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT),
        torch.nn.Linear(HIDDEN, len(history.candidates)), torch.nn.Sigmoid(),
    )  # fmt: skip
    return EstimatingRouter(history, learn_scores(model, history))
