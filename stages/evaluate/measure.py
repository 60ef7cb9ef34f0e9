"""Every method on some test questions, all their episodes concurrently."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stages.evaluate.attempt import Attempt, PoolName, from_episode
from stages.evaluate.oracle import Probe
from stages.evaluate.own import Tariff
from stages.evaluate.player import Player, redirect
from stages.evaluate.reading import Choice, Exchange, exchanges, first_called
from stages.shared.episode.roster import make_roster, rename
from stages.shared.episode.types import Episode, Roster
from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.pool.candidate import Candidate, Descriptor, Pool
from stages.shared.progress import Progress
from stages.shared.questions import Question, SubQuestion
from stages.shared.sandbox.lexicon import HELD_OUT_NAMES
from stages.shared.scoring import contains

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """The candidates that one measurement may call, and how the prompt shows them."""

    pool: PoolName
    roster: Roster
    candidates: tuple[Candidate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the candidates, in the order of the roster."""
        return tuple(candidate.name for candidate in self.candidates)


@dataclass(frozen=True, slots=True)
class Call:
    """One candidate's reply to a whole test question, and the base policy's answer from it."""

    attempt: Attempt
    reply: str


@dataclass(frozen=True)
class Table:
    """Everything that single-call methods and the oracle choose from: every candidate asked once."""

    calls: Mapping[tuple[str, str], Call]
    """(question id, candidate) -> its reply to the whole question."""
    parts: Mapping[tuple[str, str], Probe]
    """(text of a part, candidate) -> how it did on that part."""

    def attempt(self, question: Question, candidate: str) -> Attempt:
        """The attempt of sending a question to a candidate."""
        return self.calls[question.id, candidate].attempt


def make_lines(descriptors: Sequence[Descriptor], candidates: Mapping[str, Candidate]) -> list[Line]:
    """The seen pool and, where there are unseen candidates, all of them.

    Raises ConfigurationError when the profile has a candidate that the pool lacks.
    """
    missing = sorted({item.name for item in descriptors} - set(candidates))
    if missing:
        raise ConfigurationError(
            f"the profile measured {', '.join(missing)}, which the pool lacks; run the profile stage again"
        )
    shown: dict[PoolName, list[Descriptor]] = {"seen": [item for item in descriptors if item.seen]}
    if len(shown["seen"]) < len(descriptors):
        shown["all"] = list(descriptors)
    return [
        Line(pool, make_roster(items), tuple(candidates[item.name] for item in items)) for pool, items in shown.items()
    ]


class Measurement:
    """Plays the methods. `trained` is the router, `base` the policy before PPO, which answers for the baselines."""

    def __init__(
        self, trained: Player, base: Player, questions: Sequence[Question], tariff: Tariff, *, in_flight: int,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.trained = trained
        self.base = base
        self.questions = questions
        self.tariff = tariff
        self._slots = asyncio.Semaphore(in_flight)
        self._progress = progress

    def of(self, questions: Sequence[Question]) -> Measurement:
        """The same policies, slots and progress, with other questions."""
        found = copy.copy(self)
        found.questions = questions
        return found

    async def table(self, lines: Sequence[Line]) -> Table:
        """Ask every candidate every question and every known part of one; the prompt is that of its first line."""
        rosters = {name: line.roster for line in reversed(lines) for name in line.names}
        pairs = [(question, name) for question in self.questions for name in rosters]
        parts = [(part, name) for part in distinct_parts(self.questions) for name in rosters]

        async def call(pair: tuple[Question, str]) -> Call:
            """One question with one candidate."""
            question, name = pair
            return self._single(question, name, await self.base.answer_with(question, name, rosters[name]))

        calls = await self._each("single calls", pairs, call)
        probes = await self._each("parts of questions", parts, lambda pair: _probe(self.base.pool, *pair))
        return Table(
            {(question.id, name): found for (question, name), found in zip(pairs, calls, strict=True)},
            {(part.question, name): probe for (part, name), probe in zip(parts, probes, strict=True)},
        )

    async def direct(self, line: Line) -> list[Attempt]:
        """Direct: the base policy, opened with `<answer>`, alone."""
        return await self._episodes("direct", lambda question: self.base.answer_alone(question, line.roster))

    async def before_ppo(self, line: Line, max_calls: int | None = None) -> list[Attempt]:
        """The base policy as a router, with all its turns, or as many as `max_calls` allows."""
        note = f"before PPO, {line.pool}"
        return await self._episodes(note, lambda question: self.base.play(question, line.roster, max_calls))

    async def router(self, line: Line, note: str = "") -> list[Attempt]:
        """The trained policy, greedy."""
        note = note or f"router, {line.pool}"
        return await self._episodes(note, lambda question: self.trained.play(question, line.roster))

    async def forced(self, line: Line, candidate: str) -> list[Attempt]:
        """The trained policy with every call answered by one candidate: what choosing is worth, beyond asking."""
        roster = redirect(line.roster, candidate)
        return await self._episodes(f"forced:{candidate}", lambda question: self.trained.play(question, roster))

    async def capped(self, line: Line) -> list[Attempt]:
        """The trained policy, allowed one call: what further calls add."""
        return await self._episodes("one call", lambda question: self.trained.play(question, line.roster, max_calls=1))

    async def renamed(self, who: Player, line: Line, seed: int) -> list[Attempt]:
        """A policy on rosters that show every candidate under a name that no training question showed."""

        def play(question: Question) -> Awaitable[Episode]:
            """One question, with names of its own."""
            return who.play(question, rename(line.roster, random.Random(f"{seed} {question.id}"), HELD_OUT_NAMES))

        return await self._episodes("candidates renamed", play)

    async def reading(self, line: Line) -> list[Choice]:
        """Whom the trained policy calls first when two candidates exchange their skills in the prompt."""

        async def choice(pair: tuple[Question, Exchange]) -> Choice:
            """One question, asked with both tables."""
            question, swapped = pair
            played = [await self.trained.play(question, shown) for shown in (line.roster, swapped.roster)]
            return Choice(swapped, *map(first_called, played))

        return await self._each("skills exchanged", exchanges(self.questions, line.roster), choice)

    async def played(self, note: str, play: Callable[[Question], Awaitable[Attempt]]) -> list[Attempt]:
        """A method that plays each question by itself."""
        return await self._each(note, self.questions, play)

    async def _episodes(self, note: str, play: Callable[[Question], Awaitable[Episode]]) -> list[Attempt]:
        async def attempt(question: Question) -> Attempt:
            """One question played."""
            return from_episode(question, await play(question), self.tariff)

        return await self._each(note, self.questions, attempt)

    def _single(self, question: Question, name: str, episode: Episode) -> Call:
        if len(episode.calls) != 1:
            raise ConfigurationError(
                f"the call of {name} with {question.dataset} question {question.id} did not survive the policy's "
                "tokenizer or does not fit its context; rename the candidate, or raise episode.response_tokens"
            )
        reply = episode.calls[0].reply.text
        return Call(replace(from_episode(question, episode, self.tariff, scripted=True), reply=reply), reply)

    async def _each(self, note: str, items: Sequence[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
        async def one(item: S) -> T:
            """One item, when a slot is free."""
            async with self._slots:
                result = await work(item)
            self._progress.advance(1, note=note)
            return result

        tasks = [asyncio.ensure_future(one(item)) for item in items]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def distinct_parts(questions: Sequence[Question]) -> list[SubQuestion]:
    """Every part of a multi-hop question, once."""
    return list({part.question: part for question in questions for part in question.parts}.values())


async def _probe(pool: Pool, part: SubQuestion, name: str) -> Probe:
    reply, candidate = await pool.ask(name, part.question), pool.candidates[name]
    if reply.outcome.is_failure:
        raise TransientError(
            f"{name} did not answer a part of a test question ({reply.outcome}); run the stage again when it does"
        )
    right = contains(reply.text, part.answers)
    tokens = (reply.prompt_tokens, reply.completion_tokens)
    return Probe(name, right, reply.cost(candidate), reply.cost_total(candidate), reply.latency_s, tokens)
