"""Every method on every test question, all episodes concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stages.evaluate.attempt import Attempt, PoolName, Result, from_episode
from stages.evaluate.marking import Marker
from stages.evaluate.oracle import Probe, best_attempt
from stages.evaluate.player import Player, redirect
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.fixed import fixed, largest
from stages.evaluate.routers.protocol import Router
from stages.shared.episode.types import Episode, Roster
from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.pool.candidate import Candidate, Pool
from stages.shared.progress import Progress
from stages.shared.questions import Question, SubQuestion
from stages.shared.scoring import contains

S = TypeVar("S")
T = TypeVar("T")
Play = Callable[[Question], Awaitable[Episode]]


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


@dataclass(frozen=True)
class Call:
    """One candidate's reply to a whole test question, and the base policy's answer from it."""

    attempt: Attempt
    reply: str


@dataclass(frozen=True)
class Table:
    """Every (question id, candidate) asked once: all single-call methods pick from it."""

    calls: Mapping[tuple[str, str], Call]
    parts: Mapping[tuple[str, str], Probe]
    """(text of a part, candidate) -> how that candidate did on it."""


class Measurement:
    """Plays the methods. `trained` is the router, `base` the policy before PPO, which answers for the baselines."""

    def __init__(
        self, trained: Player, base: Player, questions: Sequence[Question], *, in_flight: int, progress: Progress
    ) -> None:
        self._trained = trained
        self._base = base
        self._questions = questions
        self._slots = asyncio.Semaphore(in_flight)
        self._progress = progress

    async def table(self, line: Line) -> Table:
        """Ask every candidate every question, and every known part of one."""
        pairs = [(question, name) for question in self._questions for name in line.names]
        episodes = await self._each(
            "single calls", pairs, lambda pair: self._base.answer_with(pair[0], pair[1], line.roster)
        )
        calls = {
            (question.id, name): _single(question, name, episode)
            for (question, name), episode in zip(pairs, episodes, strict=True)
        }
        parts = [(part, name) for part in _parts(self._questions) for name in line.names]
        probes = await self._each("parts", parts, lambda pair: _probe(self._base.pool, *pair))
        return Table(calls, {(part.question, name): probe for (part, name), probe in zip(parts, probes, strict=True)})

    async def direct(self, line: Line) -> list[Attempt]:
        """Direct: the base policy, opened with `<answer>`, alone."""
        return await self._episodes("direct", lambda question: self._base.answer_alone(question, line.roster))

    async def before_ppo(self, line: Line) -> list[Attempt]:
        """The base policy as a router, with all its turns."""
        return await self._episodes("warm-start", lambda question: self._base.play(question, line.roster))

    async def router(self, line: Line) -> list[Attempt]:
        """The trained policy, greedy."""
        return await self._episodes(f"router, {line.pool}", lambda question: self._trained.play(question, line.roster))

    async def forced(self, line: Line, candidate: str) -> list[Attempt]:
        """The trained policy with every call answered by one candidate: what routing is worth beyond decomposing."""
        roster = redirect(line.roster, candidate)
        return await self._episodes(f"forced:{candidate}", lambda question: self._trained.play(question, roster))

    async def prompted(self, line: Line, table: Table, alone: Sequence[Attempt]) -> list[Attempt]:
        """Prompt LLM: the base policy names a candidate, which gets the question; where it names none, it is alone."""
        choices = await self._each(
            f"prompt-llm, {line.pool}", self._questions, lambda question: self._base.first_choice(question, line.roster)
        )
        return [
            attempt if choice is None else table.calls[question.id, choice].attempt
            for question, choice, attempt in zip(self._questions, choices, alone, strict=True)
        ]

    async def _episodes(self, note: str, play: Play) -> list[Attempt]:
        episodes = await self._each(note, self._questions, play)
        return [from_episode(question, episode) for question, episode in zip(self._questions, episodes, strict=True)]

    async def _each(self, note: str, items: Sequence[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
        async def one(item: S) -> T:
            async with self._slots:
                result = await work(item)
            self._progress.advance(1, note=note)
            return result

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
        return [task.result() for task in tasks]


def single_call_routers(line: Line, seed: int) -> list[Router]:
    """The baselines and controls that choose without reading the question."""
    return [
        *(fixed(candidate) for candidate in line.candidates), largest(line.candidates), RandomRouter(line.names, seed),
    ]  # fmt: skip


def routed(router: Router, questions: Sequence[Question], table: Table) -> list[Attempt]:
    """What a single-call router gets: its choices, looked up."""
    choices = router.choose(questions)
    return [table.calls[question.id, name].attempt for question, name in zip(questions, choices, strict=True)]


def oracle(line: Line, questions: Sequence[Question], table: Table, marker: Marker) -> list[Result]:
    """The bound of this pool, from everything that was asked of it."""
    marks = marker.marks(
        [(table.calls[question.id, name].attempt.prediction, question.answers) for question in questions for name in line.names]
    )
    drawn = iter(marks)
    attempts = []
    for question in questions:
        direct = [_direct_probe(table.calls[question.id, name], name, next(drawn)[0]) for name in line.names]
        parts = [[table.parts[part.question, name] for name in line.names] for part in question.parts]
        attempts.append(best_attempt(question, direct, parts))
    return marker.mark("oracle", line.pool, attempts)


def _single(question: Question, name: str, episode: Episode) -> Call:
    if len(episode.calls) != 1:
        raise ConfigurationError(
            f"the call of {name} with {question.dataset} question {question.id} did not survive the policy's tokenizer or does "
            "not fit its context; rename the candidate, or raise episode.response_tokens"
        )
    return Call(from_episode(question, episode), episode.calls[0].reply.text)


def _direct_probe(call: Call, name: str, em: float) -> Probe:
    right = em == 1.0 or contains(call.reply, call.attempt.question.answers)
    return Probe(name, right, call.attempt.cost, call.attempt.cost_total)


async def _probe(pool: Pool, part: SubQuestion, name: str) -> Probe:
    reply, candidate = await pool.ask(name, part.question), pool.candidates[name]
    if reply.outcome.is_failure:
        raise TransientError(f"{name} did not answer a part of a test question ({reply.outcome}); run the stage again when it does")
    return Probe(name, contains(reply.text, part.answers), reply.cost(candidate), reply.cost_total(candidate))


def _parts(questions: Sequence[Question]) -> list[SubQuestion]:
    return list({part.question: part for question in questions for part in question.parts}.values())
