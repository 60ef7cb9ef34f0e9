"""Every method fitted on one split of a table and scored on the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.evaluate import behaviour, frontier
from stages.evaluate.contest import METHOD_FAULTS
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History, finite
from stages.evaluate.routers.protocol import Asked, Choice, Router
from stages.evaluate.statistics import Resamples
from stages.evaluate.tables.table import RecordTable, Rows
from stages.shared.params import RECORDS_METHODS, EvaluateParams, RecordsMethod
from stages.shared.params.evaluate import Method

SET = "all"
CHUNK = 1_024
"""Questions decided about at a time: a router may hold their distance to each of thousands of records."""
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


@dataclass
class Tally:
    """What came of one choice a question, over the rows so far: sums, however many questions there are."""

    taken: np.ndarray
    """(candidates): how often the reply of each was taken."""
    score: float = 0.0
    cost: float = 0.0
    """Of all calls."""
    n: int = 0

    def add(self, taken: np.ndarray, scores: np.ndarray, costs: np.ndarray) -> None:
        """More rows."""
        self.taken += np.bincount(taken, minlength=len(self.taken))
        self.score += float(scores.sum(dtype=float))
        self.cost += float(costs.sum(dtype=float))
        self.n += len(taken)

    @property
    def point(self) -> frontier.Point:
        """(mean cost, mean score)."""
        return self.cost / self.n, self.score / self.n


@dataclass
class Decided:
    """A fitted method, and what came of its choices so far."""

    router: Router
    fit_s: float
    curve: list[Tally]
    """One for each thrift."""
    scores: np.ndarray
    """(questions): at thrift 0, which intervals are drawn from."""
    seconds: float = 0.0


def settled(router: Router, asked: Asked) -> Router:
    """The same, for these questions alone: what it estimates does not depend on thrift, and is worked out once."""
    if not isinstance(router, EstimatingRouter):
        return router
    estimates = router.estimate(asked)
    return replace(router, estimate=lambda _: estimates)


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
        yield self._one("oracle", np.argmin(best, axis=1))
        strongest = self._history.strongest
        yield self._one(f"fixed:{self._history.candidates[strongest]}", np.full(count, strongest))
        drawn = np.random.default_rng(self._params.seed).integers(len(self._history.candidates), size=count)
        yield self._one("random", drawn)

    def fit(self, method: RecordsMethod) -> Decided:
        """A method of the catalogue, timed. Raises what its fit raises."""
        start = time.process_time()
        router = FITS[method](self._history, self._params)
        seconds = time.process_time() - start
        return Decided(router, seconds, [self._tally() for _ in THRIFTS], np.empty(len(self._test.questions)))

    def decide(self, found: Decided, asked: Asked, rows: slice) -> None:
        """Add the choices for some rows, at every thrift. Raises what they raise."""
        start = time.process_time()
        router = settled(found.router, asked)
        choices = router.decide(asked)
        found.seconds += time.process_time() - start
        found.scores[rows] = self._count(found.curve[0], choices, rows)
        for tally, thrift in zip(found.curve[1:], THRIFTS[1:], strict=True):
            self._count(tally, router.decide(asked, thrift), rows)

    def scored(self, method: RecordsMethod, found: Decided) -> Score:
        """What came of all of it."""
        milliseconds = 1000 * found.seconds / len(self._test.questions)
        return self._score(method, found.curve, found.scores, found.fit_s, milliseconds)

    def _tally(self) -> Tally:
        return Tally(np.zeros(len(self._history.candidates), dtype=int))

    def _count(self, tally: Tally, choices: Sequence[Choice], rows: slice) -> np.ndarray:
        """Every candidate that was called is paid for; the scores of the replies that were taken."""
        scores, paid = self._test.scores[rows], self._test.costs[rows]
        places = {name: place for place, name in enumerate(self._history.candidates)}
        taken = np.array([places[choice.taken] for choice in choices])
        called = [[places[name] for name in choice.called] for choice in choices]
        found: np.ndarray = scores[np.arange(len(taken)), taken]
        tally.add(taken, found, np.array([paid[row, group].sum() for row, group in enumerate(called)]))
        return found

    def _one(self, method: str, taken: np.ndarray) -> Score:
        """One call a question."""
        rows, tally = np.arange(len(taken)), self._tally()
        scores = self._test.scores[rows, taken]
        tally.add(taken, scores, self._test.costs[rows, taken])
        return self._score(method, [tally], scores)

    def _score(
        self, method: str, curve: Sequence[Tally], scores: np.ndarray, fit_s: float = 0.0, decide_ms: float = 0.0
    ) -> Score:
        points, interval = [tally.point for tally in curve], self._resamples.mean(SET, scores)
        share = dict(zip(self._history.candidates, (curve[0].taken / curve[0].n).tolist(), strict=True))
        gap = self.fixed[0], self.fixed[self._history.strongest]
        return Score(
            method, interval.value, interval.low, interval.high, points[0][0], frontier.aiq(points, self.high),
            frontier.apgr(points, *gap), frontier.cpt(points, *gap, HALF), behaviour.entropy(share), fit_s, decide_ms,
        )  # fmt: skip
