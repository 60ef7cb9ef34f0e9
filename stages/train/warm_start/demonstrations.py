"""Episodes that a teacher plays on the profile's records, through the driver that trains and measures the policy too.

The teacher's only rule for whom to call: of the candidates that the prompt shows and whose recorded reply holds a gold
answer, one that the reward pays best: any alike, or, where cost counts, the one whose reply was cheapest. Such
demonstrations route better than chance, and leave the sharp choice to PPO. An episode that is not well-formed, or does
not end on a gold answer, is rejected.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import ChatTokenizer, chat_ids, render_prompt
from stages.shared.episode.protocol import neutralise
from stages.shared.episode.roster import draw_roster, make_roster
from stages.shared.episode.types import Episode, Roster, RosterEntry, Tokenizer
from stages.shared.episode.wording import call_turn
from stages.shared.errors import DataError
from stages.shared.params import EpisodeParams, RosterParams
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import Question, SubQuestion, question_id
from stages.shared.sandbox.lexicon import TRAINING_NAMES
from stages.shared.scoring import contains, exact_match
from stages.train.warm_start.lessons import Lesson, Lessons, lessons_of, sort_lessons
from stages.train.warm_start.playback import Replay, Script
from stages.train.warm_start.records import Record, Records
from stages.train.warm_start.span import find_answer, replace_answer
from stages.train.warm_start.wording import (
    IT,
    answer_turn,
    comparison_thought,
    prose_answer_turn,
)

REJECTIONS = 500
"""Drawn in a row before the teacher gives up."""


class PolicyTokenizer(Tokenizer, ChatTokenizer, Protocol):
    """Encodes turns, and prompts in a chat template."""


@dataclass(frozen=True)
class Demonstration:
    """An episode to learn from: its question, what the prompt showed, and every token."""

    question: Question
    roster: Roster
    episode: Episode


@dataclass(frozen=True)
class Plan:
    """What the teacher will write turn by turn, and the recorded calls that answer it."""

    turns: tuple[str, ...]
    calls: tuple[Record, ...]


@dataclass(frozen=True)
class Right:
    """A candidate that a prompt shows and whose recorded reply holds a gold answer, as the reply writes it."""

    entry: RosterEntry
    record: Record
    answer: str


@dataclass(frozen=True)
class Teacher:
    """Everything that demonstrations are made of."""

    records: Records
    descriptors: tuple[Descriptor, ...]
    """Of the candidates that training may show."""
    roster: RosterParams
    episode: EpisodeParams
    decompose: float
    tokenizer: PolicyTokenizer
    thrifty: bool
    """Whether the reward counts cost."""

    def lessons(self, questions: Sequence[Question]) -> Lessons:
        """What the records answer. Raises DataError when they answer nothing."""
        everyone = make_roster(self.descriptors)
        every = (lesson for question in questions for lesson in lessons_of(question))
        return sort_lessons([lesson for lesson in every if all(self._right(step, everyone) for step in lesson.steps)])

    def demonstrate(self, lessons: Lessons, seed: int) -> Iterator[Demonstration]:
        """Draw without end; the same arguments give the same demonstrations. Raises DataError when nothing fits."""
        rng = random.Random(seed)
        rejected = 0
        while rejected < REJECTIONS:
            lesson = lessons.draw(self.decompose, rng)
            roster = draw_roster(self.descriptors, rng, self.roster, TRAINING_NAMES)
            episode = self._episode(lesson, roster, rng)
            rejected = 0 if episode else rejected + 1
            if episode:
                yield Demonstration(lesson.question, roster, episode)
        raise DataError(
            f"no demonstration in {REJECTIONS} attempts: the candidates shown were not right, or the episodes do not "
            "fit; raise train.roster.smallest, episode.turn_tokens, episode.reply_tokens or episode.response_tokens"
        )

    def _episode(self, lesson: Lesson, roster: Roster, rng: random.Random) -> Episode | None:
        plan = self._plan(lesson, roster, rng)
        if plan is None:
            return None
        message = render_prompt(lesson.question.question, roster, self.episode.prompt, self.episode.max_calls)
        prompt = chat_ids(self.tokenizer, message)
        script, pool = Script(plan.turns, self.tokenizer), Replay(plan.calls, self.descriptors)
        played = asyncio.run(run_episode(prompt, roster, script, pool, self.tokenizer, self.episode))
        return played if _is_sound(played, lesson) else None

    def _plan(self, lesson: Lesson, roster: Roster, rng: random.Random) -> Plan | None:
        """One call a step, each to a candidate that was right; None where the roster shows none for a step."""
        turns: list[str] = []
        calls: list[Record] = []
        found: list[str] = []
        for index, step in enumerate(lesson.steps):
            right = self._right(step, roster)
            if not right or index >= self.episode.max_calls:
                return None
            chosen = self._choose(right, rng)
            query = step.question
            if found:
                query = replace_answer(query, lesson.steps[index - 1].answers, found[-1])
            rest, now = _rest(lesson, index), _subjects(lesson)[index] if found and lesson.is_comparison else ""
            turns.append(call_turn(step.topic, chosen.entry, query, self.episode.prompt, rest, now=now))
            calls.append(chosen.record)
            found.append(chosen.answer)
        return Plan((*turns, self._answer(lesson, found)), tuple(calls))

    def _choose(self, right: Sequence[Right], rng: random.Random) -> Right:
        if not self.thrifty:
            return rng.choice(right)
        return min(right, key=lambda one: one.record.reply.completion_tokens * one.entry.descriptor.price)

    def _right(self, step: SubQuestion, roster: Roster) -> list[Right]:
        shown = {entry.name: entry for entry in roster.entries}
        asked = [record for record in self.records.get(question_id(step.question), ()) if record.candidate in shown]
        golds = [find_answer(neutralise(record.reply.text), step.answers) for record in asked]
        pairs = zip(asked, golds, strict=True)
        return [Right(shown[record.candidate], record, gold) for record, gold in pairs if gold is not None]

    def _answer(self, lesson: Lesson, found: Sequence[str]) -> str:
        """A chain ends on what its last call found; a comparison on one of the things that its question names."""
        compact = self.episode.prompt == "compact"
        if not lesson.is_comparison:
            return answer_turn(found[-1]) if compact else prose_answer_turn(found[-1])
        golds = lesson.question.answers
        answer = find_answer(lesson.question.question, golds) or golds[0]
        if not compact:
            return prose_answer_turn(answer, found)
        return answer_turn(answer, comparison_thought(found, _subjects(lesson), answer))


def _rest(lesson: Lesson, index: int) -> list[str]:
    """The steps after that one, as they can be said before its answer is known."""
    return [_announced(step, later) for step, later in itertools.pairwise(lesson.steps[index:])]


def _subjects(lesson: Lesson) -> list[str]:
    """What each step of a comparison is about: the words that no other step has."""
    asked = [neutralise(step.question).split() for step in lesson.steps]
    others = [{word for other in asked if other is not words for word in other} for words in asked]
    return [" ".join(word for word in words if word not in rest) for words, rest in zip(asked, others, strict=True)]


def _announced(step: SubQuestion, later: SubQuestion) -> str:
    """The later query with `it` for the answer that it builds on, or else the words that it does not share."""
    dependent = replace_answer(neutralise(later.question), step.answers, IT)
    if dependent != neutralise(later.question):
        return dependent
    known = step.question.split()
    return " ".join(word for word in neutralise(later.question).split() if word not in known)


def _is_sound(episode: Episode, lesson: Lesson) -> bool:
    """Whether the episode is well-formed, ends on a gold answer, and every reply still shows its gold after the cut."""
    if not episode.well_formed or episode.ending != "answered" or episode.answer is None:
        return False
    seen = (turn.observation for turn in episode.turns)
    shown = all(contains(text, step.answers) for text, step in zip(seen, lesson.steps, strict=False))
    return shown and bool(exact_match(episode.answer, lesson.question.answers))
