"""The questions in chunks, each played by everyone who takes part: memory grows with a chunk, not with their number.

Two chunks are under way at a time: while one waits for the last episodes of a method, the other has more to play.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from stages.evaluate.attempt import Attempt, PoolName, Result
from stages.evaluate.calibration import STATED, TABLE, Estimating
from stages.evaluate.contest import METHOD_FAULTS, Contest, Entrants, Standing, attempts, prompted
from stages.evaluate.marking import tells
from stages.evaluate.measure import Line, Measurement, Table
from stages.evaluate.metrics import BEFORE_PPO_RENAMED, RENAMED
from stages.evaluate.reading import Choice as Exchanged
from stages.evaluate.routers.protocol import Asked, Choice, Router
from stages.shared.errors import TransientError
from stages.shared.params import RecordsMethod
from stages.shared.params.evaluate import PlayedMethod
from stages.shared.questions import Question

CHUNK, AT_ONCE = 512, 2
"""Questions of a chunk, and how many chunks are under way."""
Keep = Callable[[Sequence[Result]], None]
"""Takes the results of one method with one chunk."""
Choices = dict[RecordsMethod, list[Choice]]


def chunks(questions: Iterable[Question], size: int | None = None) -> Iterator[tuple[Question, ...]]:
    """At most so many at a time, or `CHUNK`, in order."""
    rest = iter(questions)
    while chunk := tuple(islice(rest, size or CHUNK)):
        yield chunk


async def hold(
    contest: Contest, measurement: Measurement, questions: Iterable[Question], keep: Keep, size: int | None = None
) -> Standing:
    """Play all questions, and hand every method's results to `keep`, chunk after chunk in order.

    A method that fails keeps what it played before: it is among the failures, and has no result.
    """
    under_way: deque[asyncio.Task[Heat]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="fit") as thread:
        entrants = Entrants(contest, measurement, thread)
        try:
            for chunk in chunks(questions, size):
                under_way.append(asyncio.ensure_future(Heat(entrants, measurement.of(chunk)).run()))
                if len(under_way) == AT_ONCE:
                    (await under_way.popleft()).hand_over(keep)
            while under_way:
                (await under_way.popleft()).hand_over(keep)
        finally:
            for heat in under_way:
                heat.cancel()
    return entrants.standing


@dataclass(frozen=True)
class Heat:
    """One chunk. What comes of it is held until those before it are through: order tells in a sum's last bits."""

    entrants: Entrants
    measurement: Measurement
    """Of these questions."""
    results: list[list[Result]] = field(default_factory=list)
    """A list a method."""
    stated: list[tuple[str, np.ndarray, np.ndarray]] = field(default_factory=list)
    """Who stated chances, the chances, and what was right."""
    choices: list[Exchanged] = field(default_factory=list)

    @property
    def contest(self) -> Contest:
        """Who takes part."""
        return self.entrants.contest

    @property
    def questions(self) -> Sequence[Question]:
        """Of this chunk."""
        return self.measurement.questions

    def hand_over(self, keep: Keep) -> None:
        """To those who keep something of it."""
        for results in self.results:
            keep(results)
        for name, stated, right in self.stated:
            self.entrants.standing.state(name, stated, right)
        self.entrants.standing.choices.add(self.choices)

    async def run(self) -> Heat:
        """Play every method."""
        contest, measurement = self.contest, self.measurement
        first, loop = contest.lines[0], asyncio.get_running_loop()
        table = await measurement.table(contest.lines)
        self.stated.append((TABLE, *self._shown(table)))
        alone = await measurement.direct(first)
        decided = []
        for line in contest.lines:
            decided.append(loop.run_in_executor(self.entrants.thread, self.decided, line, table))
            await self._line(line, table, alone)
        for candidate in contest.forced:
            self._mark(f"forced:{candidate}", "seen", await measurement.forced(first, candidate))
        self._mark("one-call", "seen", await measurement.capped(first))
        await self._renamed()
        for line, choices in zip(contest.lines, decided, strict=True):
            for method, made in (await choices).items():
                self._mark(method, line.pool, attempts(self.questions, table, made))
        for line in contest.lines:
            for name in contest.named(line):
                await self._played(line, name)
        self.choices.extend(await measurement.reading(first))
        return self

    async def _line(self, line: Line, table: Table, alone: Sequence[Attempt]) -> None:
        before = await self.measurement.before_ppo(line)
        played = {
            "router": await self.measurement.router(line),
            "warm-start": before,
            "direct": alone,
            "prompt-llm": prompted(before, table, alone),
            "oracle": self.contest.oracle(self.questions, line, table),
        }
        asked = Asked(self._texts, np.empty((len(self.questions), 0)))
        for method, router in self.contest.plain(line).items():
            played[method] = attempts(self.questions, table, router.decide(asked))
        for method, group in played.items():
            self._mark(method, line.pool, group)

    async def _renamed(self) -> None:
        """What training added where no name of a candidate was shown before; nothing where there are too few names."""
        line, seed = self.contest.lines[0], self.contest.params.seed
        players = {RENAMED: self.measurement.trained, BEFORE_PPO_RENAMED: self.measurement.base}
        for method, who in players.items() if self.contest.renames else ():
            self._mark(method, "seen", await self.measurement.renamed(who, line, seed))

    async def _played(self, line: Line, method: PlayedMethod) -> None:
        play = await self.entrants.play(line, method)
        if play is None:
            return
        try:
            found = await self.measurement.played(f"{method}, {line.pool}", play)
        except TransientError:
            raise
        except METHOD_FAULTS as error:
            self.entrants.standing.fail(method, line.pool, error)
        else:
            self._mark(method, line.pool, found)

    def decided(self, line: Line, table: Table) -> Choices:
        """What the fitted methods choose for each question."""
        routers = self.entrants.fitted(line)
        if not routers:
            return {}

        def reply(place: int, candidate: str) -> str:
            """Of a candidate to a whole test question."""
            return table.calls[self.questions[place].id, candidate].reply

        asked, found = Asked(self._texts, self.contest.encode(self._texts), reply), Choices()
        for method, router in routers.items():
            try:
                choices = router.decide(asked)
                if line.pool == "seen" and method in STATED:
                    self._calibrate(method, router, asked, table)
                found[method] = choices
            except METHOD_FAULTS as error:
                self.entrants.standing.fail(method, line.pool, error)
        return found

    def _calibrate(self, method: RecordsMethod, router: Router, asked: Asked, table: Table) -> None:
        if isinstance(router, Estimating):
            names = router.history.candidates
            right = [[tells(item, table.calls[item.id, name].reply) for name in names] for item in self.questions]
            self.stated.append((method, router.estimate(asked), np.array(right)))

    def _shown(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """The skills that the prompt shows, on single-hop questions, and whether the replies are right."""
        known = [
            (skill.em, tells(question, table.calls[question.id, entry.name].reply))
            for question in self.questions
            for entry in self.contest.lines[0].roster.entries
            if question.hops == 1 and (skill := entry.descriptor.skill.get(question.topic))
        ]
        stated, right = (np.array([pair[side] for pair in known]) for side in (0, 1))
        return stated, right

    def _mark(self, method: str, pool: PoolName, played: Sequence[Attempt]) -> None:
        self.results.append(self.contest.marker.mark(method, pool, played))

    @property
    def _texts(self) -> tuple[str, ...]:
        return tuple(question.question for question in self.questions)
