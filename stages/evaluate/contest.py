"""Who takes part: the router, its baselines and controls, and the bound, on the seen pool and on all candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np

from stages.evaluate.attempt import Attempt, PoolName
from stages.evaluate.calibration import Calibration
from stages.evaluate.calibration import Tally as ChanceTally
from stages.evaluate.episodes import Entry
from stages.evaluate.marking import Marker, tells
from stages.evaluate.measure import Line, Measurement, Table, distinct_parts
from stages.evaluate.oracle import Probe, best_attempt
from stages.evaluate.player import Player
from stages.evaluate.reading import Tally as ReadingTally
from stages.evaluate.reading import exchanges
from stages.evaluate.records import Record
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.corpus import Corpus, load_corpus
from stages.evaluate.routers.descriptions import describe
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.fixed import FixedRouter, largest
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.history import make_history
from stages.evaluate.routers.knn import fit_knn
from stages.evaluate.routers.played import PLAYS, named
from stages.evaluate.routers.protocol import Choice, Router
from stages.evaluate.school import School, Teach
from stages.shared.errors import ConfigurationError, DataError, PipelineError, TransientError
from stages.shared.params import EvaluateParams, RecordsMethod, WorldParams
from stages.shared.params.evaluate import PlayedMethod
from stages.shared.questions import Question
from stages.shared.sandbox.lexicon import HELD_OUT_NAMES

METHOD_FAULTS = (PipelineError, ValueError, ArithmeticError, LookupError, RuntimeError)
"""What a method may fail with, on records that are not enough for it, without taking the others along."""


@dataclass
class Standing:
    """What is kept of what was played, beside the episodes: it does not grow with their number."""

    failures: dict[Entry, str] = field(default_factory=dict)
    """Methods that have no result -> why."""
    chances: dict[str, ChanceTally] = field(default_factory=dict)
    """Of the seen pool: a method, or the prompt's table, -> what its stated chances are worth."""
    choices: ReadingTally = field(default_factory=ReadingTally)
    """Of the trained policy, with skills exchanged."""

    def fail(self, method: str, pool: PoolName, error: Exception) -> None:
        """Note a method that can take part no more; the first reason stands."""
        self.failures.setdefault((method, pool), str(error) or type(error).__name__)
        if pool == "seen":
            self.chances.pop(method, None)

    def state(self, name: str, stated: np.ndarray, right: np.ndarray) -> None:
        """Add chances that were stated, and what came of them; not of a method that failed since."""
        if (name, "seen") not in self.failures:
            self.chances.setdefault(name, ChanceTally()).add(stated, right)

    @property
    def by_pool(self) -> dict[PoolName, dict[str, str]]:
        """Pool -> method -> why it has no result."""
        found: dict[PoolName, dict[str, str]] = {"seen": {}, "all": {}}
        for (method, pool), reason in self.failures.items():
            found[pool][method] = reason
        return found

    @property
    def calibrations(self) -> dict[str, Calibration]:
        """Of those that stated any chance."""
        known = {name: tally.calibration for name, tally in self.chances.items()}
        return {name: found for name, found in known.items() if found is not None}


@dataclass(frozen=True)
class Contest:
    """One evaluation: the first line is the seen pool; a second one, if any, all candidates."""

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

    def size(self, questions: Sequence[Question]) -> int:
        """Episodes and calls that some questions take, for a progress bar."""
        widest = self.lines[-1]
        episodes = len(questions) * (len(widest.names) + 2 + 2 * len(self.lines) + len(self.forced) + 2 * self.renames)
        others = len(exchanges(questions, self.lines[0].roster))
        played = sum(len(self.named(line)) for line in self.lines) * len(questions)
        return episodes + others + played + len(distinct_parts(questions)) * len(widest.names)

    @property
    def forced(self) -> tuple[str, ...]:
        """The seen candidates onto which the trained policy is forced, one after the other."""
        names = self.lines[0].names
        strongest = best_measured(self.records, names)
        return {"best": (strongest,), "all": names, "none": ()}[self.params.forced]

    @property
    def renames(self) -> bool:
        """Whether there are names enough that no training question showed."""
        return len(self.lines[0].names) <= len(HELD_OUT_NAMES)

    def named(self, line: Line) -> tuple[PlayedMethod, ...]:
        """The methods that a policy plays with a line."""
        return named(self.params, widest=line is not self.lines[0])

    def plain(self, line: Line) -> dict[str, Router]:
        """What needs no records."""
        return {
            **{f"fixed:{name}": FixedRouter(name) for name in line.names},
            "largest-llm": largest(line.candidates),
            "random": RandomRouter(line.names, self.params.seed),
        }

    def fitted(self, line: Line, standing: Standing) -> dict[RecordsMethod, Router]:
        """The methods of `evaluate.methods`, fitted on the profile's records, but for those that fail."""
        methods = [method for method in FITS if method in self.params.methods]
        found: dict[RecordsMethod, Router] = {}
        if not methods:
            return found
        try:
            told = {entry.name: describe(entry.descriptor) for entry in line.roster.entries}
            history = make_history(self.records, line.names, self.encode, told)
        except DataError as error:
            for method in methods:
                standing.fail(method, line.pool, error)
            return found
        for method in methods:
            try:
                found[method] = FITS[method](history, self.params)
            except METHOD_FAULTS as error:
                standing.fail(method, line.pool, error)
        return found

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

    def oracle(self, questions: Sequence[Question], line: Line, table: Table) -> list[Attempt]:
        """For each question the cheapest right way through the candidates of a line."""
        pairs = [(question, name) for question in questions for name in line.names]
        marks = self.marker.marks([(table.attempt(*pair).prediction, pair[0].answers) for pair in pairs])
        exact = {(question.id, name): em == 1.0 for (question, name), (em, _) in zip(pairs, marks, strict=True)}
        return [_best(question, line, table, exact) for question in questions]


class Entrants:
    """Everyone who has something to learn or to load before the first question: set up once, for all of them."""

    def __init__(self, contest: Contest, measurement: Measurement, thread: Executor) -> None:
        """`thread` fits one after the other: all of them seed one random state."""
        self.contest, self.standing, self.thread = contest, Standing(), thread
        self._measurement = measurement
        self._fits = {line.pool: thread.submit(contest.fitted, line, self.standing) for line in contest.lines}
        self._plays: dict[Entry, Play] = {}
        self._setting_up = asyncio.Lock()

    def fitted(self, line: Line) -> dict[RecordsMethod, Router]:
        """Those that chose for every question so far; waits until they are fitted."""
        found = self._fits[line.pool].result()
        return {name: router for name, router in found.items() if (name, line.pool) not in self.standing.failures}

    async def play(self, line: Line, method: PlayedMethod) -> Play | None:
        """How a policy plays a method; None where it failed.

        A candidate that does not answer stops the stage, as everywhere; any other fault loses the method alone.
        """
        entry: Entry = (method, line.pool)
        if entry in self.standing.failures:
            return None
        try:
            async with self._setting_up:
                if entry not in self._plays:
                    ground = self.contest.ground(self._measurement, line)
                    self._plays[entry] = await asyncio.to_thread(PLAYS[method], ground)
        except TransientError:
            raise
        except METHOD_FAULTS as error:
            self.standing.fail(method, line.pool, error)
        return self._plays.get(entry)


def attempts(questions: Sequence[Question], table: Table, choices: Sequence[Choice]) -> list[Attempt]:
    """What came of one choice a question."""
    return [chosen(table, *pair) for pair in zip(questions, choices, strict=True)]


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


def _best(question: Question, line: Line, table: Table, exact: Mapping[tuple[str, str], bool]) -> Attempt:
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
