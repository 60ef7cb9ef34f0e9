"""Hybrid LLM: a weak candidate for the questions on which it is expected to do as well as a strong one.

Ding et al., Hybrid LLM: Cost-Efficient and Quality-Aware Query Routing (ICLR 2024, arXiv 2404.14618), section 3. The
weak one of the pair is the best candidate that costs less than the strongest.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice, single
from stages.shared.params import EvaluateParams

GRID = 101
"""Values of the slack that are tried."""


@dataclass(frozen=True)
class HybridRouter:
    """The weak candidate where the probability that it does as well reaches the threshold: 1/2, less with thrift."""

    history: History
    model: Any
    weak: int
    strong: int

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """One call a question, to one of the two."""
        as_good = self.model.predict_proba(asked.vectors)[:, -1] * (self.model.classes_[-1] == 1)
        return single(self.history, np.where(as_good >= (1 - thrift) / 2, self.weak, self.strong))

    def without(self, gone: Collection[str]) -> HybridRouter | None:
        """The same where neither of the two leaves: what was learned is about this pair."""
        names = self.history.candidates
        return None if {names[self.weak], names[self.strong]} & set(gone) else self


def fit_hybrid(history: History, params: EvaluateParams) -> HybridRouter:
    """The transformed router (section 3.3): labels say whether the weak one's score, with some slack, is as good.

    Raises DataError when no candidate is cheaper than the strongest.
    """
    weak, strong = history.weak_and_strong()
    gap = history.scores[:, weak] - history.scores[:, strong]
    labels = (gap >= -slack(gap)).astype(int)
    model = LogisticRegression(max_iter=1000) if 0 < labels.sum() < len(labels) else DummyClassifier()
    return HybridRouter(history, model.fit(history.vectors, labels), weak, strong)


def slack(gap: np.ndarray) -> float:
    """The slack t that tells the questions apart best: the mean |y_i(t) - y_j(t)| is greatest (equation 3).

    `gap`: the weak candidate's score minus the strong one's, a question. With y in 0 and 1 that mean is 2p(1 - p).
    """
    tried = np.linspace(0.0, 1.0, GRID)
    share = (gap[None, :] >= -tried[:, None]).mean(axis=1)
    return float(tried[np.argmax(share * (1 - share))])
