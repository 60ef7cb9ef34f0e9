"""What can be demonstrated: a question asked whole, or a multi-hop question part by part."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stages.shared.errors import DataError
from stages.shared.questions import Question, SubQuestion
from stages.shared.scoring import exact_match


@dataclass(frozen=True)
class Lesson:
    """One way to answer a question: the steps are asked one call each."""

    question: Question
    steps: tuple[SubQuestion, ...]

    @property
    def is_comparison(self) -> bool:
        """Whether the answer of the whole is none of its last part's: then something was compared."""
        golds = self.question.answers
        return len(self.steps) > 1 and not any(exact_match(answer, golds) for answer in self.steps[-1].answers)


@dataclass(frozen=True)
class Lessons:
    """Lessons by kind."""

    single: tuple[Lesson, ...]
    direct: tuple[Lesson, ...]
    """Multi-hop questions asked as they are."""
    split: tuple[Lesson, ...]
    """Multi-hop questions asked part by part."""

    @property
    def multi_hop(self) -> frozenset[str]:
        """Ids of the multi-hop questions."""
        return frozenset(lesson.question.id for lesson in (*self.direct, *self.split))

    def __len__(self) -> int:
        """How many questions there is a lesson on."""
        return len(self.single) + len(self.multi_hop)

    def draw(self, decompose: float, rng: random.Random) -> Lesson:
        """Every question equally often; of the multi-hop ones the share `decompose` part by part."""
        if rng.random() * len(self) < len(self.single):
            return rng.choice(self.single)
        wanted = self.split if rng.random() < decompose else self.direct
        return rng.choice(wanted or self.split or self.direct)


def lessons_of(question: Question) -> Iterator[Lesson]:
    """The ways to answer one question. A multi-hop question asked whole counts under the topic of its last part."""
    yield Lesson(question, (SubQuestion(question.question, question.answers, question.whole_topic),))
    if question.parts:
        yield Lesson(question, question.parts)


def sort_lessons(lessons: Sequence[Lesson]) -> Lessons:
    """The lessons by kind. Raises DataError when there is none."""
    if not lessons:
        raise DataError(
            "no profiling question can be demonstrated, since no candidate's recorded reply holds a gold answer; raise "
            "ingest.sizes.profiling and profile.questions, add a stronger candidate, or set train.warm_start.steps to 0"
        )
    return Lessons(
        single=tuple(lesson for lesson in lessons if not lesson.question.parts),
        direct=tuple(lesson for lesson in lessons if lesson.question.parts and len(lesson.steps) == 1),
        split=tuple(lesson for lesson in lessons if len(lesson.steps) > 1),
    )
