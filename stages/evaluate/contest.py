"""Who takes part: the router, its baselines and controls, and the bound, on the seen pool and on all candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from stages.evaluate.attempt import Attempt, PoolName, Result
from stages.evaluate.calibration import STATED, TABLE, Calibration, Estimating, calibrate
from stages.evaluate.marking import Marker, tells
from stages.evaluate.measure import Line, Measurement, Table, distinct_parts
from stages.evaluate.metrics import BEFORE_PPO_RENAMED, RENAMED
from stages.evaluate.oracle import Probe, best_attempt
from stages.evaluate.player import Player
from stages.evaluate.reading import exchanges
from stages.evaluate.records import Record
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.corpus import Corpus, load_corpus
from stages.evaluate.routers.descriptions import describe
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.fixed import FixedRouter, largest
from stages.evaluate.routers.ground import Ground
from stages.evaluate.routers.history import make_history
from stages.evaluate.routers.knn import fit_knn
from stages.evaluate.routers.played import PLAYS, named
from stages.evaluate.routers.protocol import Asked, Choice, Router
from stages.evaluate.school import School, Teach
from stages.shared.errors import ConfigurationError, DataError, PipelineError, TransientError
from stages.shared.params import EvaluateParams, RecordsMethod, WorldParams
from stages.shared.params.evaluate import PlayedMethod
from stages.shared.questions import Question
from stages.shared.sandbox.lexicon import HELD_OUT_NAMES

METHOD_FAULTS = (PipelineError, ValueError, ArithmeticError, LookupError, RuntimeError)
"""What a method may fail with, on records that are not enough for it, without taking the others along."""


@dataclass(frozen=True)
class Failure:
    """A method that could not take part."""

    method: str
    pool: PoolName
    reason: str


def by_pool(failures: Sequence[Failure]) -> dict[PoolName, dict[str, str]]:
    """Pool -> method -> reason."""
    found: dict[PoolName, dict[str, str]] = {"seen": {}, "all": {}}
    for failure in failures:
        found[failure.pool][failure.method] = failure.reason
    return found


@dataclass(frozen=True)
class Contest:
    """One evaluation: the first line is the seen pool; a second one, if any, all candidates."""

    questions: Sequence[Question]
    lines: Sequence[Line]
    records: Sequence[Record]
    """Of the profile: all that a baseline may learn from."""
    params: EvaluateParams
    encode: Encoder
    marker: Marker
    world: WorldParams | None = None
    """Of the sandbox: its facts are searched where `evaluate.corpus` names no folder."""
    school: School | None = None
    """Where a method may tune a copy of the base policy."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """Of the seen pool, filled by `run`: a method, or the prompt's table, -> what its stated chances are worth."""

    @property
    def size(self) -> int:
        """Episodes and calls to come, for a progress bar."""
        widest = self.lines[-1]
        episodes = len(self.questions) * (
            len(widest.names) + 2 + 2 * len(self.lines) + len(self.forced) + 2 * self._renames
        )
        others = len(exchanges(self.questions, self.lines[0].roster))
        played = sum(len(self._named(line)) for line in self.lines) * len(self.questions)
        return episodes + others + played + len(distinct_parts(self.questions)) * len(widest.names)

    @property
    def forced(self) -> tuple[str, ...]:
        """The seen candidates onto which the trained policy is forced, one after the other."""
        names = self.lines[0].names
        strongest = best_measured(self.records, names)
        return {"best": (strongest,), "all": names, "none": ()}[self.params.forced]

    async def run(self, measurement: Measurement) -> tuple[list[Result], list[Failure]]:
        """Every method's result for every question, and the methods that have none."""
        table = await measurement.table(self.lines)
        self._calibrate_table(table)
        alone = await measurement.direct(self.lines[0])
        results: list[Result] = []
        failures: list[Failure] = []
        with ThreadPoolExecutor(1, thread_name_prefix="fit") as thread:  # one by one: they seed one random state
            fits = []
            for line in self.lines:
                fits.append(asyncio.get_running_loop().run_in_executor(thread, self.fitted, line, table))
                results += await self._line(measurement, line, table, alone)
            for candidate in self.forced:
                attempts = await measurement.forced(self.lines[0], candidate)
                results += self.marker.mark(f"forced:{candidate}", "seen", attempts)
            results += self.marker.mark("one-call", "seen", await measurement.capped(self.lines[0]))
            results += await self._renamed(measurement)
            for line, fit in zip(self.lines, fits, strict=True):
                choices, failed = await fit
                failures += failed
                for method, made in choices.items():
                    results += self.marker.mark(method, line.pool, self.attempts(table, made))
        for line in self.lines:
            for name in self._named(line):
                found = await self._play(measurement, line, name)
                if isinstance(found, Failure):
                    failures.append(found)
                else:
                    results += self.marker.mark(name, line.pool, found)
        return results, failures

    async def _renamed(self, measurement: Measurement) -> list[Result]:
        """What training added where no name of a candidate was shown before; nothing where there are too few names."""
        if not self._renames:
            return []
        line, seed = self.lines[0], self.params.seed
        players = {RENAMED: measurement.trained, BEFORE_PPO_RENAMED: measurement.base}
        return [
            result
            for method, who in players.items()
            for result in self.marker.mark(method, "seen", await measurement.renamed(who, line, seed))
        ]

    @property
    def _renames(self) -> bool:
        return len(self.lines[0].names) <= len(HELD_OUT_NAMES)

    def _named(self, line: Line) -> tuple[PlayedMethod, ...]:
        return named(self.params, widest=line is not self.lines[0])

    async def _play(self, measurement: Measurement, line: Line, method: PlayedMethod) -> list[Attempt] | Failure:
        """A candidate that does not answer stops the stage, as everywhere; any other fault loses the method alone."""
        try:
            play = await asyncio.to_thread(PLAYS[method], self.ground(measurement, line))
            return await measurement.played(f"{method}, {line.pool}", play)
        except TransientError:
            raise
        except METHOD_FAULTS as error:
            return Failure(method, line.pool, str(error) or type(error).__name__)

    def ground(self, measurement: Measurement, line: Line, knn: Router | None = None) -> Ground:
        """What a method is played on; `knn` stands for the KNN router fitted on these candidates' records."""

        def nearest() -> Router:
            """Whom the starred KNN router asks about a part."""
            return knn or fit_knn(make_history(self.records, line.names, self.encode), self.params)

        return Ground(
            measurement.base, measurement.trained, measurement.tariff, line, self.params, self.encode, nearest,
            self._corpus, self._taught,
        )  # fmt: skip

    def _corpus(self) -> Corpus:
        return load_corpus(self.params.corpus, self.world)

    def _taught(self, teach: Teach) -> Player:
        if self.school is None:
            raise ConfigurationError("there is no policy to tune here; run the pipeline")
        return self.school.taught(teach)

    async def _line(self, measurement: Measurement, line: Line, table: Table, alone: Sequence[Attempt]) -> list[Result]:
        before = await measurement.before_ppo(line)
        attempts = {
            "router": await measurement.router(line),
            "warm-start": before,
            "direct": alone,
            "prompt-llm": prompted(before, table, alone),
            "oracle": self.oracle(line, table),
        }
        asked = Asked(tuple(question.question for question in self.questions), np.empty((len(self.questions), 0)))
        for method, router in self.plain(line).items():
            attempts[method] = self.attempts(table, router.decide(asked))
        return [item for method, group in attempts.items() for item in self.marker.mark(method, line.pool, group)]

    def plain(self, line: Line) -> dict[str, Router]:
        """What needs no records."""
        return {
            **{f"fixed:{name}": FixedRouter(name) for name in line.names},
            "largest-llm": largest(line.candidates),
            "random": RandomRouter(line.names, self.params.seed),
        }

    def fitted(self, line: Line, table: Table) -> tuple[dict[RecordsMethod, list[Choice]], list[Failure]]:
        """What the methods of `evaluate.methods` choose for each question, fitted on the profile's records."""
        methods = [method for method in FITS if method in self.params.methods]
        if not methods:
            return {}, []
        try:
            told = {entry.name: describe(entry.descriptor) for entry in line.roster.entries}
            history = make_history(self.records, line.names, self.encode, told)
        except DataError as error:
            return {}, [Failure(method, line.pool, str(error)) for method in methods]
        texts = tuple(question.question for question in self.questions)

        def reply(place: int, candidate: str) -> str:
            """Of a candidate to a whole test question."""
            return table.calls[self.questions[place].id, candidate].reply

        asked = Asked(texts, self.encode(texts), reply)
        choices: dict[RecordsMethod, list[Choice]] = {}
        failures: list[Failure] = []
        for method in methods:
            try:
                router = FITS[method](history, self.params)
                choices[method] = router.decide(asked)
                if line.pool == "seen" and method in STATED:
                    self._calibrate(method, router, asked, table)
            except METHOD_FAULTS as error:
                failures.append(Failure(method, line.pool, str(error) or type(error).__name__))
        return choices, failures

    def _calibrate(self, method: RecordsMethod, router: Router, asked: Asked, table: Table) -> None:
        if isinstance(router, Estimating):
            names = router.history.candidates
            right = [[tells(item, table.calls[item.id, name].reply) for name in names] for item in self.questions]
            self._keep(method, calibrate(router.estimate(asked), np.array(right)))

    def _calibrate_table(self, table: Table) -> None:
        known = [
            (skill.em, tells(question, table.calls[question.id, entry.name].reply))
            for question in self.questions
            for entry in self.lines[0].roster.entries
            if question.hops == 1 and (skill := entry.descriptor.skill.get(question.topic))
        ]
        stated, right = (np.array([pair[side] for pair in known]) for side in (0, 1))
        self._keep(TABLE, calibrate(stated, right))

    def _keep(self, name: str, found: Calibration | None) -> None:
        if found is not None:
            self.calibrations[name] = found

    def attempts(self, table: Table, choices: Sequence[Choice]) -> list[Attempt]:
        """What came of one choice a question."""
        return [chosen(table, *pair) for pair in zip(self.questions, choices, strict=True)]

    def oracle(self, line: Line, table: Table) -> list[Attempt]:
        """For each question the cheapest right way through the candidates of a line."""
        pairs = [(question, name) for question in self.questions for name in line.names]
        marks = self.marker.marks([(table.attempt(*pair).prediction, pair[0].answers) for pair in pairs])
        exact = {(question.id, name): em == 1.0 for (question, name), (em, _) in zip(pairs, marks, strict=True)}
        return [self._best(question, line, table, exact) for question in self.questions]

    def _best(self, question: Question, line: Line, table: Table, exact: Mapping[tuple[str, str], bool]) -> Attempt:
        direct = []
        for name in line.names:
            call = table.calls[question.id, name]
            right = exact[question.id, name] or tells(question, call.reply)
            direct.append(
                Probe(
                    name,
                    right,
                    call.attempt.cost,
                    call.attempt.cost_calls,
                    call.attempt.latency_s,
                    *call.attempt.tokens,
                )
            )
        parts = [[table.parts[part.question, name] for name in line.names] for part in question.parts]
        return best_attempt(question, direct, parts)


def chosen(table: Table, question: Question, choice: Choice) -> Attempt:
    """The attempt with the reply that a router takes; it pays for every reply that it looked at."""
    looked = [table.attempt(question, name) for name in choice.called]
    taken = table.attempt(question, choice.taken)
    return replace(
        taken,
        called=choice.called,
        cost=sum(attempt.cost for attempt in looked),
        cost_calls=sum(attempt.cost_calls for attempt in looked),
        latency_s=sum(attempt.latency_s for attempt in looked),
        tokens=tuple(count for attempt in looked for count in attempt.tokens),
    )


def best_measured(records: Sequence[Record], names: Sequence[str]) -> str:
    """The candidate with the most right replies in the profile: chosen without a look at the test sets."""
    return max(names, key=lambda name: sum(record.score for record in records if record.candidate == name))


def prompted(before: Sequence[Attempt], table: Table, alone: Sequence[Attempt]) -> list[Attempt]:
    """Prompt LLM: the candidate that the base policy names first gets the question; without one, it is alone.

    What the policy wrote to choose is its own cost beside that of answering.
    """
    pairs = [
        (episode, table.attempt(episode.question, episode.called[0]) if episode.called else direct)
        for episode, direct in zip(before, alone, strict=True)
    ]
    return [replace(found, own=found.own + episode.choosing) for episode, found in pairs]
