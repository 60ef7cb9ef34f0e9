"""LLMRank: readable features of the question, and a network that ranks the candidates by them.

Agrawal and Gupta, LLMRank: Understanding LLM Strengths for Model Routing (arXiv 2510.01234): features of a prompt (its
task, reasoning, complexity, syntax) feed a network that predicts every candidate's utility, trained by a hybrid loss:
the squared error of each utility, and the KL divergence of the whole ranking. An LLM extracts the features in the paper
and a small one gives a trial answer; here they are counted in the text, beside its embedding, and nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.learning import learn, tensor
from stages.evaluate.routers.protocol import Asked
from stages.shared.params import EvaluateParams

HIDDEN, DROPOUT, TEMPERATURE = 100, 0.2, 0.25
PATTERNS: Mapping[str, str] = {
    "person asked": r"\bwho(?:se|m)?\b", "thing asked": r"\bwh(?:at|ich)\b", "time asked": r"\bwhen\b|\byear\b",
    "place asked": r"\bwhere\b", "reason asked": r"\bwhy\b|\bhow\b(?! many| much)", "code": r"\bdef \w+\(|```",
    "amount asked": r"\bhow (?:many|much)\b", "yes or no": r"^\s*(?:is|are|was|were|do|does|did|can|has|have)\b",
    "choices": r"(?m)^\s*\(?[A-E][.):]", "formula": r"[=+*/^\\]|\bsolve\b|\bequation\b", "digits": r"\d+",
    "links": r"\bof\b|'s\b|\bthat\b", "comparison": r"\b(?:more|less|higher|older|first|larger|than|both)\b",
    "condition": r"\bif\b|\bthen\b|\bgiven\b", "negation": r"\bnot\b|\bn't\b|\bexcept\b",
    "names": r"(?<!^)\b[A-Z][a-z]+", "quotes": r"[\"“”]", "commas": r"[,;]", "sentences": r"[.?!](?:\s|$)",
    "words": r"\w+",
}  # fmt: skip
"""What is counted in a question: its task, its way of reasoning, its complexity and its syntax."""
_COUNTED = [re.compile(pattern) for pattern in PATTERNS.values()]


class Ranker(torch.nn.Module):
    """Utility of every candidate, from features and embedding."""

    def __init__(self, width: int, candidates: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT),
            torch.nn.Linear(HIDDEN, candidates),
        )  # fmt: skip

    def forward(self, rows: Any) -> Any:
        """(questions, candidates)."""
        return self.layers(rows)


def fit_llmrank(history: History, params: EvaluateParams) -> EstimatingRouter:
    """Learn by the hybrid loss. Raises DataError where the records hold no texts."""
    history.require_texts("llmrank")
    torch.manual_seed(params.seed)
    counted = features(history.questions)
    mean, spread = counted.mean(axis=0), counted.std(axis=0).clip(min=1e-6)
    weight = 1 / np.sqrt(counted.shape[1])

    def read(texts: Sequence[str], vectors: np.ndarray) -> Any:
        """Features, of about the length of an embedding together, beside the embedding."""
        scaled = ((features(texts) - mean) / spread).clip(-3, 3) * weight
        return tensor(np.hstack([scaled, vectors]))

    rows, scores = read(history.questions, history.vectors), tensor(history.scores)
    ranker = Ranker(rows.shape[1], len(history.candidates))

    def estimate(asked: Asked) -> np.ndarray:
        """The predicted utility."""
        with torch.inference_mode():
            values: np.ndarray = ranker(read(asked.questions, asked.vectors)).numpy()
        return values

    learn(ranker, len(rows), lambda places: hybrid(ranker(rows[places]), scores[places]))
    return EstimatingRouter(history, estimate)


def features(texts: Sequence[str]) -> np.ndarray:
    """(questions, features): how often each pattern stands in the text, as log(1 + count)."""
    counts = [[sum(1 for _ in pattern.finditer(text)) for pattern in _COUNTED] for text in texts]
    found: np.ndarray = np.log1p(np.array(counts, dtype=float))
    return found


def hybrid(utility: Any, scores: Any) -> Any:
    """Squared error of each utility, and KL from the ranking that the scores give to the predicted one."""
    wanted = torch.softmax(scores / TEMPERATURE, dim=1)
    ranking = torch.log_softmax(utility / TEMPERATURE, dim=1)
    listwise = torch.nn.functional.kl_div(ranking, wanted, reduction="batchmean")
    return torch.nn.functional.mse_loss(utility, scores) + listwise
