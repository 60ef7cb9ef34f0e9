"""Routoo: a predictor of every candidate's score, and a selector that spends a budget over all questions together.

Mohammadshahi, Shaikh and Yazdani, Routoo: Learning to Route to Large Language Models Effectively (arXiv 2401.13979): a
performance predictor reads the question and an embedding of the candidate; a cost-aware selector maximises the
predicted scores under a bound on the total cost. The paper's predictor is a tuned LLM of 7B parameters; here a network
on the MiniLM embedding stands for it, so that only the shape is Routoo's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.estimating import Estimate, columns
from stages.evaluate.routers.history import History, finite
from stages.evaluate.routers.learning import learn_scores
from stages.evaluate.routers.protocol import Asked, Choice, single
from stages.shared.params import EvaluateParams

WIDTH, HALVINGS, ROUNDING = 64, 40, 1e-9
"""Of an embedding; steps of the search for the price of a unit of cost; of a budget, what rounding may take."""


class Predictor(torch.nn.Module):
    """P(right) from the question and the candidate's own embedding."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.question = torch.nn.Linear(width, WIDTH)
        self.candidates = torch.nn.Parameter(torch.randn(candidates, WIDTH) / WIDTH**0.5)
        self.head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(),
                                        torch.nn.Linear(WIDTH, 1))  # fmt: skip

    def forward(self, vectors: Any) -> Any:
        """(questions, candidates)."""
        joined = self.question(vectors)[:, None, :] + self.candidates[None]
        return torch.sigmoid(self.head(joined).squeeze(-1))


@dataclass(frozen=True)
class BudgetRouter:
    """The best predicted scores that a budget buys: the dearest choice at thrift 0, the cheapest candidate at 1."""

    history: History
    estimate: Estimate

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One call a question, with thrift in view of all questions. Raises DataError when an estimate is no number."""
        scores = finite("estimate", self.estimate(asked), self.history.candidates)
        costs = self.history.mean_costs
        free = costs[scores.argmax(axis=1)].mean()
        return single(self.history, spend(scores, costs, thrift * costs.min() + (1 - thrift) * free))

    def without(self, gone: Collection[str]) -> BudgetRouter:
        """The others are predicted as before."""
        kept = self.history.kept(gone)
        return BudgetRouter(self.history.only(kept), columns(self.estimate, kept))


def fit_routoo(history: History, params: EvaluateParams) -> BudgetRouter:
    """Cross-entropy of the prediction against the scores."""
    torch.manual_seed(params.seed)
    model = Predictor(history.vectors.shape[1], len(history.candidates))
    return BudgetRouter(history, learn_scores(model, history))


def spend(scores: np.ndarray, costs: np.ndarray, budget: float) -> np.ndarray:
    """Places, (questions,), with the greatest total score at a mean cost of at most `budget`, by Lagrange's multiplier.

    `scores`: (questions, candidates); `costs`: (candidates,). The multiplier is halved in on; where two candidates
    change places at the same multiplier, the budget may not be used up. The least budget is the cheapest candidate's.
    """

    def chosen(price: float) -> np.ndarray:
        """The best at that price of a unit of cost."""
        places: np.ndarray = np.argmax(scores - price * costs, axis=1)
        return places

    if costs[chosen(0.0)].mean() <= budget * (1 + ROUNDING):
        return chosen(0.0)
    gaps = np.diff(np.unique(costs))
    low, high = 0.0, 2 * max(1.0, float(np.ptp(scores))) / float(gaps.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if costs[chosen(middle)].mean() <= budget else (middle, high)
    return chosen(high)
