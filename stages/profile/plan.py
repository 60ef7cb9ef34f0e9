"""What is asked of every candidate: a sample of the profiling questions, and the parts of the multi-hop ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from stages.shared.questions import Question, question_id

Key = tuple[str, str]
"""Candidate and question."""


@dataclass(frozen=True)
class Item:
    """One question to ask. A part knows the multi-hop question that it comes from, and its place in it."""

    question: str
    answers: tuple[str, ...]
    dataset: str
    topic: str
    hops: int
    part_of: str = ""
    part_index: int = 0

    @property
    def id(self) -> str:
        """Hash of the normalised question."""
        return question_id(self.question)


def make_plan(questions: Sequence[Question], limit: int) -> list[Item]:
    """At most `limit` questions, evenly from the data sets in their order, each followed by its parts."""
    return [item for question in _evenly(questions)[:limit] for item in _items(question)]


def texts(plan: Sequence[Item]) -> list[str]:
    """Every different wording in the plan, once."""
    return list(dict.fromkeys(item.question for item in plan))


def _evenly(questions: Sequence[Question]) -> list[Question]:
    by_set: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_set[question.dataset].append(question)
    rounds = zip_longest(*by_set.values())
    return [question for question in chain.from_iterable(rounds) if question is not None]


def _items(question: Question) -> list[Item]:
    whole = Item(question.question, question.answers, question.dataset, question.topic, question.hops)
    parts = [
        Item(part.question, part.answers, question.dataset, part.topic, 1, question.id, index)
        for index, part in enumerate(question.parts)
    ]
    return [whole, *parts]
