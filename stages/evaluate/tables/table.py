"""A table of records that somebody published: candidates scored on questions, split to fit and to test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.history import History, finite
from stages.evaluate.routers.protocol import Asked
from stages.shared.errors import DataError

TRAIN_SHARE = 0.7
"""Of the questions, where the publisher made no split: LLMRouterBench's own share."""


@dataclass(frozen=True)
class Rows:
    """Questions with what every candidate scored and cost."""

    questions: tuple[str, ...]
    scores: np.ndarray
    """(questions, candidates), 0 to 1."""
    costs: np.ndarray
    """(questions, candidates), in the table's unit."""
    vectors: np.ndarray | None = None
    """Where the table brings embeddings of its own, and no texts."""
    replies: tuple[tuple[str, ...], ...] | None = None
    """(questions, candidates), where the publisher kept them."""

    def only(self, places: np.ndarray) -> Rows:
        """Some of the rows."""
        return Rows(
            tuple(self.questions[place] for place in places), self.scores[places], self.costs[places],
            None if self.vectors is None else self.vectors[places],
            None if self.replies is None else tuple(self.replies[place] for place in places),
        )  # fmt: skip

    def ordered(self, order: Sequence[int]) -> tuple[tuple[str, ...], ...] | None:
        """The replies with the candidates in another order."""
        return None if self.replies is None else tuple(tuple(row[place] for place in order) for row in self.replies)


@dataclass(frozen=True)
class RecordTable:
    """Two splits of the same candidates."""

    source: str
    candidates: tuple[str, ...]
    cost_unit: str
    train: Rows
    test: Rows
    descriptions: tuple[str, ...] | None = None
    """Of the candidates, where the publisher has any; their names otherwise."""

    def history(self, encode: Encoder) -> History:
        """The split to fit on, candidates from the cheapest to the dearest."""
        order = self.order
        names = tuple(self.candidates[place] for place in order)
        return History(
            self.train.questions, names, finite("score", self.train.scores[:, order], names),
            finite("cost", self.train.costs[:, order], names), unit_vectors(self.train, encode),
            encode([(self.descriptions or self.candidates)[place] for place in order]),
            self.train.ordered(order), self.train.vectors is None,
        )  # fmt: skip

    @property
    def order(self) -> list[int]:
        """Places of the candidates, the cheapest on the split to fit on first."""
        return [int(place) for place in np.argsort(self.train.costs.mean(axis=0), kind="stable")]

    def chunks(self, most: int) -> list[slice]:
        """Rows of the split to test on, at most so many at a time."""
        count = len(self.test.questions)
        return [slice(start, min(start + most, count)) for start in range(0, count, most)]

    def asked(self, encode: Encoder, rows: slice = slice(None)) -> Asked:
        """Rows of the split to test on, without their scores."""
        test = self.test.only(np.arange(*rows.indices(len(self.test.questions))))
        replies, places = test.replies, {name: place for place, name in enumerate(self.candidates)}

        def reply(row: int, candidate: str) -> str:
            """Of a candidate to a question."""
            return replies[row][places[candidate]] if replies is not None else ""

        return Asked(test.questions, unit_vectors(test, encode), None if replies is None else reply)


def unit_vectors(rows: Rows, encode: Encoder) -> np.ndarray:
    """The table's own embeddings, made unit vectors, or those of the encoder."""
    if rows.vectors is None:
        return encode(rows.questions)
    found: np.ndarray = rows.vectors / np.linalg.norm(rows.vectors, axis=1, keepdims=True).clip(min=1e-12)
    return found


def split(source: str, candidates: Sequence[str], cost_unit: str, rows: Rows, seed: int) -> RecordTable:
    """A table that was published in one piece, split at random. Raises DataError when it is too small for that."""
    count = round(TRAIN_SHARE * len(rows.questions))
    if not 0 < count < len(rows.questions):
        raise DataError(f"{source}: {len(rows.questions)} complete questions are too few to split; give more records")
    shuffled = np.random.default_rng(seed).permutation(len(rows.questions))
    return RecordTable(source, tuple(candidates), cost_unit, rows.only(shuffled[:count]), rows.only(shuffled[count:]))
