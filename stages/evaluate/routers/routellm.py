"""RouteLLM, matrix factorisation: who wins against whom, as a bilinear function of candidate and question.

Ong et al., RouteLLM: Learning to Route LLMs with Preference Data (ICLR 2025, arXiv 2406.18665), section 4.2:
delta(M, q) = w . (v_M * (W v_q + b)), P(M wins over N) = sigmoid(delta(M, q) - delta(N, q)). Preferences are pairs of
candidates of which one scored better; ties say nothing. The paper then chooses between two; any number is ranked here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams

WIDTH = 128


class Strengths(torch.nn.Module):
    """delta: how strong each candidate is on each question."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.candidates = torch.nn.Parameter(torch.randn(candidates, WIDTH) / WIDTH**0.5)
        self.map = torch.nn.Linear(width, WIDTH)
        self.weigh = torch.nn.Linear(WIDTH, 1, bias=False)

    def forward(self, vectors: Any) -> Any:
        """(questions, candidates)."""
        return self.weigh(self.candidates[None] * self.map(vectors)[:, None]).squeeze(-1)


def fit_routellm(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Learn from every preference; a candidate is worth its probability to win over the strongest.

    Raises DataError when no question tells two candidates apart.
    """
    torch.manual_seed(params.seed)
    better = history.scores[:, :, None] > history.scores[:, None, :]
    if not better.any():
        raise DataError("routellm-mf learns from preferences, and no question tells two candidates apart")
    question, winner, loser = (torch.as_tensor(places) for places in np.nonzero(better))
    strengths, vectors = Strengths(history.vectors.shape[1], len(history.candidates)), tensor(history.vectors)

    def loss(rows: Any) -> Any:
        """Of one batch of preferences: the negative log-likelihood that the winner wins."""
        delta = strengths(vectors[question[rows]])
        gap = delta.gather(1, winner[rows, None]) - delta.gather(1, loser[rows, None])
        return torch.nn.functional.softplus(-gap).mean()

    def estimate(asked: Asked) -> np.ndarray:
        """P(candidate wins over the strongest)."""
        with torch.inference_mode():
            delta = strengths(tensor(asked.vectors))
            values: np.ndarray = torch.sigmoid(delta - delta[:, [history.strongest]]).numpy()
        return values

    learn(strengths, len(question), loss)
    return EstimatingRouter(history, estimate)
