"""Every method fitted on one split of a table and scored on the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.evaluate import behaviour, frontier
from stages.evaluate.contest import METHOD_FAULTS
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.history import History, finite
from stages.evaluate.routers.protocol import Asked, Choice, Router
from stages.evaluate.statistics import Resamples
from stages.evaluate.tables.table import RecordTable, Rows
from stages.shared.params import RECORDS_METHODS, EvaluateParams, RecordsMethod
from stages.shared.params.evaluate import Method

SET = "all"
CHUNK = 4_096
"""Questions whose embeddings are held at a time."""
HALF = 0.5
"""Of the gap, at which CPT is read off."""
PLAYED = "cannot take part: a policy plays it, and records hold none; name it in evaluate.methods, and run the pipeline"
THRIFTS = tuple(step / 10 for step in range(11))
"""Where the curve of a method is sampled."""


@dataclass(frozen=True)
class Score:
    """One method on the split to test on."""

    method: str
    accuracy: float
    """Mean score at thrift 0."""
    low: float
    high: float
    cost: float
    """Mean of a question with all its calls, in the table's unit, at thrift 0."""
    aiq: float
    """Over all thrifts, costs from 0 to the dearest candidate's."""
    apgr: float | None
    """From the cheapest candidate to the one that was best on the split to fit on; None where that leaves no gap."""
    cpt: float | None
    """Share of the way between those two costs at which half of that gap is recovered; None where it never is."""
    entropy: float
    """Of the candidates chosen, bits."""
    fit_s: float
    decide_ms: float
    """Milliseconds a question, embedding not counted; both of CPU, so that a busy machine tells the same."""


@dataclass(frozen=True)
class Standing:
    """All of them, the best first."""

    source: str
    n_train: int
    n_test: int
    candidates: tuple[str, ...]
    cost_unit: str
    scores: tuple[Score, ...]
    failed: dict[str, str]
    """Method -> why it has no score."""
    zero_router: float
    """AIQ of random mixtures of the candidates."""


def hold(table: RecordTable, methods: Sequence[Method], encode: Encoder, params: EvaluateParams) -> Standing:
    """Fit and score each method, with the oracle, the best fixed candidate and chance beside.

    A method that a policy has to play cannot take part, and says so among the failed. Raises DataError where a score or
    cost is no number.
    """
    history, order = table.history(encode), table.order
    names = history.candidates
    test = Rows(
        table.test.questions, finite("score", table.test.scores[:, order], names),
        finite("cost", table.test.costs[:, order], names),
    )  # fmt: skip
    judge = Judge(history, test, params)
    scores = [*judge.controls()]
    failed: dict[str, str] = {}
    decided: dict[RecordsMethod, Decided] = {}
    for method in methods:
        if method not in RECORDS_METHODS:
            failed[method] = PLAYED
            continue
        try:
            decided[method] = judge.fit(method)
        except METHOD_FAULTS as error:
            failed[method] = str(error) or type(error).__name__
    for rows in table.chunks(CHUNK):
        asked = table.asked(encode, rows)
        for method in list(decided):
            try:
                judge.decide(decided[method], asked, rows)
            except METHOD_FAULTS as error:
                failed[method] = str(error) or type(error).__name__
                del decided[method]
    scores += [judge.scored(method, found) for method, found in decided.items()]
    ranked = sorted(scores, key=lambda score: (-score.accuracy, score.cost))
    return Standing(
        table.source, len(history.questions), len(test.questions), history.candidates, table.cost_unit, tuple(ranked),
        failed, frontier.aiq(judge.fixed, judge.high),
    )  # fmt: skip


@dataclass(frozen=True)
class Picked:
    """What came of one choice a question: whose reply was taken, its score, and what all calls cost."""

    taken: np.ndarray
    scores: np.ndarray
    costs: np.ndarray

    @property
    def point(self) -> frontier.Point:
        """(mean cost, mean score)."""
        return float(self.costs.mean()), float(self.scores.mean())


def joined(parts: Sequence[Picked]) -> Picked:
    """The rows of several, one after the other."""
    return Picked(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("taken", "scores", "costs")))


@dataclass
class Decided:
    """A fitted method, and its choices so far: a list of chunks for each thrift."""

    router: Router
    fit_s: float
    seconds: float = 0.0
    parts: list[list[Picked]] = field(default_factory=lambda: [[] for _ in THRIFTS])


class Judge:
    """Scores choices on the split to test on."""

    def __init__(self, history: History, test: Rows, params: EvaluateParams) -> None:
        self._history, self._test, self._params = history, test, params
        means = zip(test.costs.mean(axis=0), test.scores.mean(axis=0), strict=True)
        self.fixed: list[frontier.Point] = [(float(cost), float(score)) for cost, score in means]
        self.high = max(cost for cost, _ in self.fixed)
        sizes = {SET: len(test.questions)}
        self._resamples = Resamples(sizes, params.resamples, params.confidence, params.seed)

    def controls(self) -> Iterator[Score]:
        """The bound, the candidate that was best on the split to fit on, and chance."""
        count = len(self._test.questions)
        best = np.where(self._test.scores == self._test.scores.max(axis=1, keepdims=True), self._test.costs, np.inf)
        yield self._score("oracle", self._one(np.argmin(best, axis=1)))
        yield self._score(f"fixed:{self._history.candidates[self._history.strongest]}",
                          self._one(np.full(count, self._history.strongest)))  # fmt: skip
        drawn = np.random.default_rng(self._params.seed).integers(len(self._history.candidates), size=count)
        yield self._score("random", self._one(drawn))

    def fit(self, method: RecordsMethod) -> Decided:
        """A method of the catalogue, timed. Raises what its fit raises."""
        start = time.process_time()
        router = FITS[method](self._history, self._params)
        return Decided(router, time.process_time() - start)

    def decide(self, found: Decided, asked: Asked, rows: slice) -> None:
        """Add the choices for some rows, at every thrift. Raises what they raise."""
        start = time.process_time()
        found.parts[0].append(self._picked(found.router.decide(asked), rows))
        found.seconds += time.process_time() - start
        for part, thrift in zip(found.parts[1:], THRIFTS[1:], strict=True):
            part.append(self._picked(found.router.decide(asked, thrift), rows))

    def scored(self, method: RecordsMethod, found: Decided) -> Score:
        """What came of all of it."""
        picked, *others = (joined(parts) for parts in found.parts)
        curve = [picked.point, *(other.point for other in others)]
        milliseconds = 1000 * found.seconds / len(self._test.questions)
        return self._score(method, picked, curve, found.fit_s, milliseconds)

    def _picked(self, choices: Sequence[Choice], rows: slice) -> Picked:
        """Every candidate that was called is paid for."""
        scores, paid = self._test.scores[rows], self._test.costs[rows]
        places = {name: place for place, name in enumerate(self._history.candidates)}
        taken = np.array([places[choice.taken] for choice in choices])
        called = [[places[name] for name in choice.called] for choice in choices]
        costs = np.array([paid[row, group].sum() for row, group in enumerate(called)])
        return Picked(taken, scores[np.arange(len(taken)), taken], costs)

    def _one(self, taken: np.ndarray) -> Picked:
        """One call a question."""
        rows = np.arange(len(taken))
        return Picked(taken, self._test.scores[rows, taken], self._test.costs[rows, taken])

    def _score(
        self, method: str, picked: Picked, curve: Sequence[frontier.Point] = (), fit_s: float = 0.0,
        decide_ms: float = 0.0,
    ) -> Score:  # fmt: skip
        cost, _ = picked.point
        interval = self._resamples.mean(SET, picked.scores)
        points = curve or [picked.point]
        counts = np.bincount(picked.taken, minlength=len(self._history.candidates)) / len(picked.taken)
        share = dict(zip(self._history.candidates, counts.tolist(), strict=True))
        gap = self.fixed[0], self.fixed[self._history.strongest]
        return Score(
            method, interval.value, interval.low, interval.high, cost, frontier.aiq(points, self.high),
            frontier.apgr(points, *gap), frontier.cpt(points, *gap, HALF), behaviour.entropy(share), fit_s, decide_ms,
        )  # fmt: skip
