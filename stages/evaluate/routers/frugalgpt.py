"""FrugalGPT: ask candidates one after the other until a scorer trusts a reply.

Chen, Zaharia and Zou, FrugalGPT (arXiv 2305.05176), section 3: a scorer g(question, reply), a list L of at most three
candidates and thresholds, chosen together for the best reward at a cost. The paper's scorer is a DistilBERT; here it is
a logistic regression a candidate, on the question's embedding and the reply's letters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from stages.evaluate.routers.history import History
from stages.evaluate.routers.protocol import Asked, Choice, Reply
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams

LONGEST, FOLDS, LETTERS, RIGHT = 3, 3, 64, 0.5
QUANTILES = (0.25, 0.5, 0.75)
"""Of a candidate's trust over the records: the thresholds that are tried."""
_letters = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=LETTERS)


@dataclass(frozen=True)
class Strategy:
    """Candidates in order, by their places in the history, a threshold for each but the last, and what came of it."""

    order: tuple[int, ...]
    thresholds: tuple[float, ...]
    reward: float
    """Mean score over the records."""
    cost: float
    """Mean, millionths of a dollar a question."""


@dataclass(frozen=True)
class FrugalRouter:
    """The strategy that did best on the records, with thrift weighed in as by every router that estimates."""

    history: History
    scorers: tuple[Any, ...]
    strategies: tuple[Strategy, ...]

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """As many calls as it takes until one is trusted. Raises DataError without replies to look at."""
        if asked.reply is None:
            raise DataError("frugalgpt looks at replies before it asks on, and there are none")
        dearest = self.history.mean_costs.max() or 1.0
        best = max(
            self.strategies, key=lambda item: ((1 - thrift) * item.reward - thrift * item.cost / dearest, -item.cost)
        )
        return self._played(best, asked, asked.reply)

    def without(self, gone: Collection[str]) -> FrugalRouter:
        """The strategies that do without them; a scorer knows one candidate alone."""
        kept = set(self.history.kept(gone))
        return replace(self, strategies=tuple(item for item in self.strategies if kept.issuperset(item.order)))

    def _played(self, strategy: Strategy, asked: Asked, reply: Reply) -> list[Choice]:
        called: list[list[int]] = [[] for _ in asked.questions]
        waiting = np.arange(len(asked.questions))
        for place, threshold in zip(strategy.order, (*strategy.thresholds, -np.inf), strict=True):
            if not len(waiting):
                break
            for index in waiting:
                called[index].append(place)
            texts = [reply(int(index), self.history.candidates[place]) for index in waiting]
            trusted = trust(self.scorers[place], features(asked.vectors[waiting], texts)) >= threshold
            waiting = waiting[~trusted]
        return [self._choice(places) for places in called]

    def _choice(self, places: Sequence[int]) -> Choice:
        names = tuple(self.history.candidates[place] for place in places)
        return Choice(names, names[-1], float(self.history.mean_costs[list(places)].sum()))


def fit_frugalgpt(history: History, params: EvaluateParams) -> FrugalRouter:
    """Scorers on all records; strategies by the trust that other folds gave. Raises DataError on too few replies."""
    scorers, given = fit_scorers(history, "frugalgpt")
    return FrugalRouter(history, tuple(scorers), tuple(strategies(history, given)))


def fit_scorers(history: History, method: str) -> tuple[list[Any], np.ndarray]:
    """A scorer a candidate, and the trust, (questions, candidates), that scorers of other folds put in each reply.

    Raises DataError, for the method, where there are no replies or too few.
    """
    if history.replies is None:
        raise DataError(f"{method} learns which replies to trust, and these records hold scores only")
    history.require(2 * FOLDS, method)
    scorers, given = [], []
    for place in range(len(history.candidates)):
        rows = features(history.vectors, [replies[place] for replies in history.replies])
        right = (history.scores[:, place] >= RIGHT).astype(int)
        known = min(right.sum(), len(right) - right.sum()) >= FOLDS
        model = LogisticRegression(max_iter=1000) if known else DummyClassifier(strategy="prior")
        if known:
            given.append(cross_val_predict(model, rows, right, cv=FOLDS, method="predict_proba")[:, -1])
        else:
            given.append(np.full(len(right), right.mean()))
        scorers.append(model.fit(rows, right))
    return scorers, np.stack(given, axis=1)


def strategies(history: History, given: np.ndarray) -> Iterator[Strategy]:
    """Every list of candidates with every combination of thresholds, played on the records.

    `given`: (questions, candidates), the trust in each reply.
    """
    levels = np.quantile(given, QUANTILES, axis=0)
    for length in range(1, min(LONGEST, len(history.candidates)) + 1):
        for order in permutations(range(len(history.candidates)), length):
            for thresholds in product(*(np.unique(levels[:, place]) for place in order[:-1])):
                yield _tried(history, given, order, tuple(map(float, thresholds)))


def features(vectors: np.ndarray, replies: Sequence[str]) -> np.ndarray:
    """(replies, dimensions + letters)."""
    return np.hstack([vectors, letters(replies)])


def letters(replies: Sequence[str]) -> np.ndarray:
    """(replies, letters): runs of one to three letters, hashed."""
    found: np.ndarray = _letters.transform(replies).toarray()
    return found


def trust(scorer: Any, rows: np.ndarray) -> np.ndarray:
    """P(right) of each reply."""
    found: np.ndarray = scorer.predict_proba(rows)[:, -1] * float(scorer.classes_[-1])
    return found


def _tried(history: History, given: np.ndarray, order: tuple[int, ...], thresholds: tuple[float, ...]) -> Strategy:
    reward, cost = history.scores[:, order[-1]], history.costs[:, order[-1]]
    for place, threshold in zip(reversed(order[:-1]), reversed(thresholds), strict=True):
        trusted = given[:, place] >= threshold
        reward = np.where(trusted, history.scores[:, place], reward)
        cost = history.costs[:, place] + np.where(trusted, 0.0, cost)
    return Strategy(order, thresholds, float(reward.mean()), float(cost.mean()))
