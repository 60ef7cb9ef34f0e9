"""IRT-Router: item response theory, with candidates as test takers and questions as items.

Song et al., IRT-Router: Effective and Interpretable Multi-LLM Routing via Item Response Theory (ACL 2025, arXiv
2506.01048), section 3, the multidimensional model: P(right) = sigmoid(a(q) . theta(M) - b(q)), with the discrimination
a and the difficulty b of a question read from its embedding, and the abilities theta from the embedding of the
candidate's description: one that is new needs no records, and nothing is fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.descriptions import Newcomer, Scale
from stages.evaluate.routers.estimating import Enlarged, EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

DIMENSIONS = 25


class ItemResponse(torch.nn.Module):
    """P(right) of whoever is described."""

    def __init__(self, width: int, described: int) -> None:
        super().__init__()
        self.ability = torch.nn.Linear(described, DIMENSIONS)
        self.discrimination = torch.nn.Linear(width, DIMENSIONS)
        self.difficulty = torch.nn.Linear(width, 1)

    def forward(self, vectors: Any, described: Any) -> Any:
        """(questions, candidates)."""
        discrimination = torch.nn.functional.softplus(self.discrimination(vectors))
        return torch.sigmoid(discrimination @ self.ability(described).T - self.difficulty(vectors))


@dataclass(frozen=True)
class ItemResponseRouter(EstimatingRouter):
    """Estimates any candidate that is described."""

    model: ItemResponse
    scale: Scale

    def joined(self, new: Sequence[Newcomer]) -> Enlarged:
        """With candidates beside those that it was fitted on, by their descriptions."""
        known = self.history
        described = np.vstack([known.described, *(item.described for item in new)])
        return Enlarged(
            (*known.candidates, *(item.name for item in new)),
            np.array([*known.mean_costs, *(item.cost for item in new)]),
            lambda asked: chances(self.model, asked, self.scale(described)),
        )


def fit_irt(history: History, params: EvaluateParams) -> ItemResponseRouter:
    """Cross-entropy of P(right) against the scores."""
    torch.manual_seed(params.seed)
    scale = Scale.of(history.described)
    model = ItemResponse(history.vectors.shape[1], history.described.shape[1])
    vectors, scores, described = tensor(history.vectors), tensor(history.scores), scale(history.described)

    def loss(rows: Any) -> Any:
        """Of one batch."""
        return torch.nn.functional.binary_cross_entropy(model(vectors[rows], described), scores[rows])

    learn(model, len(vectors), loss)
    return ItemResponseRouter(history, lambda asked: chances(model, asked, described), model, scale)


def chances(model: ItemResponse, asked: Asked, described: Any) -> np.ndarray:
    """(questions, candidates)."""
    with torch.inference_mode():
        values: np.ndarray = model(tensor(asked.vectors), described).numpy()
    return values
