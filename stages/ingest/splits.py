"""Train, profiling, validation and test: drawn by seed, without copies, disjoint by normalised question."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from stages.ingest.sources import QuestionSource
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import IngestParams
from stages.shared.questions import Question, Split

DRAWN: tuple[Split, ...] = ("validation", "profiling", "train")
"""In this order from one supply, so that a larger training split leaves the others as they were."""
Splits = Mapping[Split, Sequence[Question]]


@dataclass(frozen=True)
class Draw:
    """The splits, and what was left out of them."""

    splits: Splits
    duplicates: int
    """Copies of a question within what a source offered for one split."""
    overlaps: int
    """Training questions that were also in the test set of the same data set."""


@dataclass(frozen=True)
class Offer:
    """What a source offers for one split of one data set, each question once."""

    questions: tuple[Question, ...]
    duplicates: int


def draw_splits(source: QuestionSource, params: IngestParams) -> Draw:
    """Draw all four splits.

    Raises ConfigurationError when a source has too few questions for `ingest.sizes`, DataError when a question of one
    split is also in another (after training questions that the same set's test has too were taken out).
    """
    test, held_out = _draw_test(source, params)
    splits: dict[Split, list[Question]] = {"train": [], "profiling": [], "validation": []}
    splits["test"] = list(test.splits["test"])
    duplicates, overlaps = test.duplicates, 0
    for name in params.train_on:
        drawn = _draw_training(source, name, params, held_out.get(name, set()))
        duplicates, overlaps = duplicates + drawn.duplicates, overlaps + drawn.overlaps
        for split, questions in drawn.splits.items():
            splits[split] += questions
    check_leaks(splits)
    return Draw(splits, duplicates, overlaps)


def _draw_test(source: QuestionSource, params: IngestParams) -> tuple[Draw, dict[str, set[str]]]:
    """The test sets one after the other; what two of them share stays in the first. Of what was offered and not drawn
    only the ids outlive a set, where one trains on it: a million questions offered take gigabytes.
    """
    drawn: dict[str, Question] = {}
    offered: dict[str, set[str]] = {}
    duplicates = 0
    for name in source.test_sets:
        offer = distinct(source.questions(name, "test", params.sizes.test))
        if name in params.train_on:
            offered[name] = {question.id for question in offer.questions}
        fresh = [question for question in offer.questions if question.id not in drawn]
        duplicates += offer.duplicates + len(offer.questions) - len(fresh)
        drawn |= {question.id: question for question in _sample(fresh, params.sizes.test, params.seed, name, "test")}
    return Draw({"test": tuple(drawn.values())}, duplicates, 0), offered


def _draw_training(source: QuestionSource, name: str, params: IngestParams, held_out: set[str]) -> Draw:
    """Validation, profiling and training questions of one data set, none of them in `held_out`."""
    used: set[str] = set()
    overlapping: set[str] = set()
    splits: dict[Split, Sequence[Question]] = {}
    duplicates = 0
    for split in DRAWN:
        size = getattr(params.sizes, split)
        offer = distinct(source.questions(name, split, size))
        taken = used | held_out
        supply = [question for question in offer.questions if question.id not in taken]
        if len(supply) < size:
            raise _too_few(name, split, len(supply), size)
        splits[split] = _sample(supply, size, params.seed, name, split)
        used.update(question.id for question in splits[split])
        overlapping |= {question.id for question in offer.questions} & held_out
        duplicates = max(duplicates, offer.duplicates)
    return Draw(splits, duplicates, len(overlapping))


def _too_few(name: str, split: Split, left: int, wanted: int) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: {left} questions are left for {split}, ingest.sizes.{split} wants {wanted}; "
        f"lower ingest.sizes, or give {name} a larger source"
    )


def distinct(questions: Iterable[Question]) -> Offer:
    """Each question once, by its normalised form; the first of several copies stays."""
    kept: dict[str, Question] = {}
    count = 0
    for question in questions:
        count += 1
        kept.setdefault(question.id, question)
    return Offer(tuple(kept.values()), count - len(kept))


def check_leaks(splits: Splits) -> None:
    """Raise DataError, with examples, when two splits share a question after normalisation."""
    faults = []
    for (first, left), (second, right) in combinations(splits.items(), 2):
        here = {question.id for question in left}
        there = {question.id: question for question in right if question.id in here}
        shared = [(question, there[question.id]) for question in left if question.id in there]
        if shared:
            examples = "; ".join(f"{a.dataset}/{b.dataset}: {a.question!r}" for a, b in shared[:3])
            faults.append(f"  {first} and {second} share {len(shared)}: {examples}")
    if faults:
        way_out = "remove them from the source's files, or choose other files under ingest.source"
        raise DataError("\n".join(["questions leak between splits:", *faults, way_out]))


def _sample(questions: Sequence[Question], size: int, seed: int, dataset: str, split: Split) -> list[Question]:
    """At most `size` questions by seed; all of them, in their order, where there are no more."""
    if len(questions) <= size:
        return list(questions)
    return random.Random(f"{seed}|{dataset}|{split}").sample(questions, size)
