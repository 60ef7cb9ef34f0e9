"""What is known of candidates before any test: each of them scored on the same questions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.evaluate.records import Record
from stages.evaluate.routers.encoder import Encoder
from stages.shared.errors import DataError


@dataclass(frozen=True)
class History:
    """A table without holes. Candidates stand from the cheapest to the dearest, so that a tie goes to the cheaper."""

    questions: tuple[str, ...]
    candidates: tuple[str, ...]
    scores: np.ndarray
    """(questions, candidates), 0 to 1."""
    costs: np.ndarray
    """(questions, candidates), millionths of a dollar."""
    vectors: np.ndarray
    """(questions, dimensions), of unit length."""
    described: np.ndarray
    """(candidates, dimensions): their descriptions, by the encoder that the questions went through."""
    replies: tuple[tuple[str, ...], ...] | None = None
    """(questions, candidates); None where only scores were kept."""
    worded: bool = True
    """Whether the questions are there as texts, not as embeddings alone."""

    @property
    def mean_costs(self) -> np.ndarray:
        """A candidate's mean cost of a question."""
        means: np.ndarray = self.costs.mean(axis=0)
        return means

    @property
    def strongest(self) -> int:
        """The place of the candidate with the best mean score."""
        return int(self.scores.mean(axis=0).argmax())

    def weak_and_strong(self) -> tuple[int, int]:
        """The strongest candidate, and before it the best of those that cost less. Raises DataError without one."""
        strong, costs = self.strongest, self.mean_costs
        cheaper = [place for place in range(len(self.candidates)) if costs[place] < costs[strong]]
        if not cheaper:
            raise DataError(f"no candidate costs less than the strongest, {self.candidates[strong]}: nothing to weigh")
        return max(cheaper, key=lambda place: self.scores[:, place].mean()), strong

    def kept(self, gone: Collection[str]) -> list[int]:
        """Places of the candidates that stay when these are taken away."""
        return [place for place, name in enumerate(self.candidates) if name not in gone]

    def only(self, places: Sequence[int]) -> History:
        """The same questions with some of the candidates."""
        rows = None if self.replies is None else tuple(tuple(row[place] for place in places) for row in self.replies)
        names = tuple(self.candidates[place] for place in places)
        return replace(
            self, candidates=names, scores=self.scores[:, places], costs=self.costs[:, places],
            described=self.described[list(places)], replies=rows,
        )  # fmt: skip

    def averaged(self, others: Sequence[History]) -> History:
        """One row with these candidates and those of others: everyone's means over its own records, replies empty."""
        parts = (self, *others)
        names = [name for part in parts for name in part.candidates]
        costs = np.concatenate([part.mean_costs for part in parts])
        scores = np.concatenate([part.scores.mean(axis=0) for part in parts])
        order = np.argsort(costs, kind="stable")
        return History(
            ("",), tuple(names[place] for place in order), scores[None, order], costs[None, order],
            np.zeros((1, self.vectors.shape[1])), np.concatenate([part.described for part in parts])[order],
            (("",) * len(names),) if all(part.replies is not None for part in parts) else None, self.worded,
        )  # fmt: skip

    def require(self, least: int, method: str) -> None:
        """Raises DataError where there are too few questions to fit a method on."""
        if len(self.questions) < least:
            raise DataError(
                f"{method} needs records of at least {least} questions, found {len(self.questions)}; "
                "raise ingest.sizes.profiling and profile.questions"
            )

    def require_texts(self, method: str) -> None:
        """Raises DataError where a method that reads the questions finds embeddings alone."""
        if not self.worded:
            raise DataError(f"{method} reads the questions, and these records hold embeddings in their place")


def make_history(
    records: Sequence[Record], candidates: Sequence[str], encode: Encoder, descriptions: Mapping[str, str] | None = None
) -> History:
    """The records of these candidates; a question counts when every one of them replied to it.

    `descriptions`: candidate -> what is known of it; its name where nothing is. Raises DataError when there is no such
    question, or a score or cost is no number.
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
    return History(
        tuple(whole),
        tuple(order),
        finite("score", np.array([[row[name].score for name in order] for row in rows]), order),
        finite("cost", np.array([[row[name].cost for name in order] for row in rows]), order),
        encode(list(whole)),
        encode([(descriptions or {}).get(name, name) for name in order]),
        tuple(tuple(row[name].reply for name in order) for row in rows),
    )


def finite(what: str, values: np.ndarray, candidates: Sequence[str]) -> np.ndarray:
    """The values. Raises DataError naming the candidates that have one which is no number."""
    bad = [name for name, column in zip(candidates, values.T, strict=True) if not np.isfinite(column).all()]
    if bad:
        raise DataError(f"the records hold a {what} that is no number, of {', '.join(bad)}; correct or remove the row")
    return values
