"""Every method on every case: scores, regret, and how much a new candidate is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from stages.evaluate import behaviour
from stages.evaluate.attempt import Attempt, Result
from stages.evaluate.contest import METHOD_FAULTS, Contest, attempts, prompted
from stages.evaluate.measure import Line, Measurement, Table
from stages.evaluate.metrics import AVERAGE, ROUTER, Difference, method_cells
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.fixed import FixedRouter, largest
from stages.evaluate.routers.played import ALONE, PLAYS
from stages.evaluate.routers.protocol import Asked, Choice
from stages.evaluate.sheet import Measured
from stages.evaluate.statistics import Resamples
from stages.evaluate.unseen.cases import Case, Kind, Knowledge
from stages.evaluate.unseen.fitted import Fitted, Outcome
from stages.shared.episode.roster import make_roster
from stages.shared.errors import TransientError

ORACLE = "oracle"


@dataclass(frozen=True)
class Score:
    """One method in one case, averaged over the test sets. Costs are millionths of a dollar a question."""

    em: float
    em_low: float
    em_high: float
    cost: float
    calls: float
    share_new: float | None
    """Of its calls, those to new candidates; None where there are none."""
    regret: Difference
    """EM of the oracle over the same candidates minus this method's, paired by question."""
    regret_cost: float
    change: Difference
    """EM minus the same method's with the candidates of training."""


@dataclass(frozen=True)
class CaseScores:
    """What one case came to."""

    name: str
    kind: Kind
    new: tuple[str, ...]
    removed: tuple[str, ...]
    knowledge: Knowledge | None
    methods: dict[str, Score]
    cannot: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True)
class Trial:
    """All cases."""

    synthetic: bool
    n: int
    shots: int
    seed: int
    confidence: float
    cases: tuple[CaseScores, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Played:
    """The results of one case."""

    case: Case
    measured: Measured
    outcome: Outcome


async def play_case(
    contest: Contest, measurement: Measurement, table: Table, alone: Sequence[Attempt], fitted: Fitted, case: Case,
    asked: Asked,
) -> Played:  # fmt: skip
    """Play one case; the replies to whole questions are those of `table`. Nobody learns anything from it."""
    line, questions = _line(case, contest), measurement.questions
    first = await measurement.before_ppo(line, max_calls=1)
    outcome = fitted.decide(case, asked)
    choices = _plain(line, asked, contest.params.seed) | outcome.choices
    played = {
        ROUTER: await measurement.router(line, note=str(case)),
        "prompt-llm": prompted(first, table, alone),
        ORACLE: contest.oracle(questions, line, table),
        **{name: attempts(questions, table, made) for name, made in choices.items()},
    }
    played |= await _multi(contest, measurement, line, fitted, case, outcome)
    results: list[Result] = []
    for method, group in played.items():
        results += contest.marker.mark(method, "all", group)
    return Played(case, Measured.of(results, questions, "all"), outcome)


async def _multi(
    contest: Contest, measurement: Measurement, line: Line, fitted: Fitted, case: Case, outcome: Outcome
) -> dict[str, list[Attempt]]:
    """What the policy plays with the candidates of the case; who cannot, or fails, is noted in the outcome."""
    found: dict[str, list[Attempt]] = {}
    for method in (name for name in PLAYS if name in contest.params.methods and name not in ALONE):
        try:
            router = fitted.ready(case, "knn") if method == "knn-multi" else None
            if isinstance(router, str):
                outcome.cannot[method] = router
                continue
            ground = contest.ground(measurement, line, router)
            found[method] = await measurement.played(f"{method}, {case}", PLAYS[method](ground))
        except TransientError:
            raise
        except METHOD_FAULTS as error:
            outcome.failed[method] = str(error) or type(error).__name__
    return found


def score_cases(played: Sequence[Played], resamples: Resamples) -> tuple[CaseScores, ...]:
    """Every case beside the first, which holds the candidates of training."""
    return tuple(_scored(each, played[0], resamples) for each in played)


def _line(case: Case, contest: Contest) -> Line:
    known = {candidate.name: candidate for line in contest.lines for candidate in line.candidates}
    return Line("all", make_roster(case.descriptors), tuple(known[name] for name in case.names))


def _plain(line: Line, asked: Asked, seed: int) -> dict[str, list[Choice]]:
    """What needs no records; a candidate that everything is sent to is one of the new where there are any."""
    return {
        "largest-llm": largest(line.candidates).decide(asked),
        "random": RandomRouter(line.names, seed).decide(asked),
        **{f"fixed:{name}": FixedRouter(name).decide(asked) for name in line.names},
    }


def _scored(played: Played, base: Played, resamples: Resamples) -> CaseScores:
    case, measured = played.case, played.measured
    return CaseScores(
        name=str(case), kind=case.kind, new=case.new, removed=case.removed, knowledge=case.knowledge,
        methods={name: _score(name, played, base, resamples) for name in measured.methods},
        cannot=dict(played.outcome.cannot), failed=dict(played.outcome.failed),
    )  # fmt: skip


def _score(method: str, played: Played, base: Played, resamples: Resamples) -> Score:
    sheet, oracle = (played.measured.sheet(name) for name in (method, ORACLE))
    cell, bound = (method_cells(each, resamples)[AVERAGE] for each in (sheet, oracle))
    ours, best = sheet.values("em"), oracle.values("em")
    before = base.measured.values(method, "em") if method in base.measured.methods else ours
    share = behaviour.shares(sheet.called(), played.case.names)
    regret, change = resamples.difference(best, ours), resamples.difference(ours, before)
    return Score(
        em=cell.em, em_low=cell.em_low, em_high=cell.em_high, cost=cell.cost, calls=cell.calls,
        share_new=float(np.sum([share[name] for name in played.case.new])) if played.case.new else None,
        regret=Difference(regret.value, regret.low, regret.high), regret_cost=cell.cost - bound.cost,
        change=Difference(change.value, change.low, change.high),
    )  # fmt: skip
