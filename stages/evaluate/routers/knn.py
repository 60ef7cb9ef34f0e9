"""The candidate that did best on the most similar profiling questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluate.records import Record
from stages.shared.errors import DataError
from stages.shared.questions import Question

Encoder = Callable[[Sequence[str]], np.ndarray]
"""Texts -> unit vectors, shape (texts, dimensions)."""


@dataclass(frozen=True)
class KnnRouter:
    """KNN Router: each candidate's mean score over the nearest profiling questions (cosine); ties go to the cheaper."""

    candidates: tuple[str, ...]
    """From the cheapest to the dearest, by their mean cost in the records."""
    vectors: np.ndarray
    """(profiling questions, dimensions), of unit length."""
    scores: np.ndarray
    """(profiling questions, candidates): whether the candidate's reply held a gold answer."""
    neighbours: int
    encode: Encoder
    method: str = "knn"

    def choose(self, questions: Sequence[Question]) -> list[str]:
        """The best candidate of each question's neighbourhood."""
        near = self.encode([question.question for question in questions]) @ self.vectors.T
        k = min(self.neighbours, near.shape[1])
        nearest = np.argsort(-near, axis=1, kind="stable")[:, :k]
        best = np.argmax(self.scores[nearest].mean(axis=1), axis=1)
        return [self.candidates[index] for index in best]


def fit_knn(records: Sequence[Record], candidates: Sequence[str], encode: Encoder, neighbours: int) -> KnnRouter:
    """Fit on the profile's records of these candidates; a question counts when every one of them replied to it.

    Raises DataError when no such question is there.
    """
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.candidate in candidates and not record.failed:
            table.setdefault(record.question, {})[record.candidate] = record
    whole = {text: row for text, row in table.items() if len(row) == len(candidates)}
    if not whole:
        raise DataError(
            "artifacts/profile/records.parquet: no profiling question has replies of every candidate; "
            "run the profile stage again"
        )
    rows = list(whole.values())
    order = sorted(candidates, key=lambda name: float(np.mean([row[name].cost for row in rows])))
    scores = np.array([[float(row[name].contains) for name in order] for row in rows])
    return KnnRouter(tuple(order), encode(list(whole)), scores, neighbours, encode)
