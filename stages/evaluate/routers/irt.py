"""IRT-Router: item response theory, with candidates as test takers and questions as items.

Song et al., IRT-Router: Effective and Interpretable Multi-LLM Routing via Item Response Theory (ACL 2025, arXiv
2506.01048), section 3, the multidimensional model: P(right) = sigmoid(a(q) . theta_M - b(q)), with the discrimination a
and the difficulty b of a question read from its embedding. The paper reads the abilities theta from descriptions of
the candidates; they are parameters here, so that records are all it takes.
"""

from __future__ import annotations

from typing import Any

import torch

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn_scores
from stages.shared.params import EvaluateParams

DIMENSIONS = 25


class ItemResponse(torch.nn.Module):
    """P(right) of every candidate."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.abilities = torch.nn.Parameter(torch.randn(candidates, DIMENSIONS) / DIMENSIONS**0.5)
        self.discrimination = torch.nn.Linear(width, DIMENSIONS)
        self.difficulty = torch.nn.Linear(width, 1)

    def forward(self, vectors: Any) -> Any:
        """(questions, candidates)."""
        discrimination = torch.nn.functional.softplus(self.discrimination(vectors))
        return torch.sigmoid(discrimination @ self.abilities.T - self.difficulty(vectors))


def fit_irt(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Cross-entropy of P(right) against the scores."""
    torch.manual_seed(params.seed)
    model = ItemResponse(history.vectors.shape[1], len(history.candidates))
    return EstimatingRouter(history, learn_scores(model, history))
