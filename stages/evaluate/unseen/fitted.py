"""What a router that was fitted on records does with candidates that it was not fitted on, as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.evaluate.contest import METHOD_FAULTS
from stages.evaluate.records import Record
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.estimating import EstimatingRouter
from stages.evaluate.routers.history import History, make_history
from stages.evaluate.routers.played import ALONE, PLAYS
from stages.evaluate.routers.protocol import Asked, Choice, Router
from stages.evaluate.unseen.cases import Case
from stages.evaluate.unseen.shots import Shots
from stages.shared.params import EvaluateParams, RecordsMethod

ONE_BY_ONE: frozenset[RecordsMethod] = frozenset({"knn", "correctness"})
"""They estimate each candidate from its own records alone: a new one is estimated beside the others."""
NO_RECORDS = "cannot: it learns from records, and there are none of the new candidate"
RETRAIN = "cannot: it would have to be fitted again, with records of all its candidates"
ALONE_ALL_THE_SAME = "left out: it calls no candidate, so that none is new to it"
NOT_PLAYED = "left out: it plays episodes of its own, and this protocol does not play them"
TOGETHER = "cannot: it would have to be fitted again, since what it learned names the candidate that left"


@dataclass(frozen=True)
class Outcome:
    """What the fitted methods make of one case."""

    choices: dict[str, list[Choice]] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    """Method -> why it has to be left out; `failed` is another thing: it could have taken part."""
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """The routers of `evaluate.methods` that are fitted on records, each once, on the candidates of training."""

    routers: Mapping[RecordsMethod, Router]
    failed: Mapping[str, str]
    records: Sequence[Record]
    shots: Shots
    params: EvaluateParams
    encode: Encoder

    def decide(self, case: Case, asked: Asked) -> Outcome:
        """Every method's choices for a case, or why it has none."""
        found = Outcome(cannot=played(self.params), failed=dict(self.failed))
        for method, router in self.routers.items():
            reason = refusal(case, method, router)
            if reason:
                found.cannot[method] = reason
                continue
            try:
                found.choices[method] = self._choose(case, method, router, asked)
            except METHOD_FAULTS as error:
                found.failed[method] = str(error) or type(error).__name__
        return found

    def _choose(self, case: Case, method: RecordsMethod, router: Router, asked: Asked) -> list[Choice]:
        if case.kind == "base" or not isinstance(router, EstimatingRouter):
            return router.decide(asked)
        columns = dict(zip(router.history.candidates, router.estimate(asked).T, strict=True))
        costs = dict(zip(router.history.candidates, map(float, router.history.mean_costs), strict=True))
        for name in case.new:
            alone = self._history(case, name)
            column = FITS[method](alone, self.params)
            assert isinstance(column, EstimatingRouter)
            columns[name], costs[name] = column.estimate(asked)[:, 0], float(alone.mean_costs[0])
        return best(columns, costs, case.names)

    def _history(self, case: Case, name: str) -> History:
        """What is known of a new candidate."""
        rows = self.records if case.knowledge == "profile" else self.shots.records[name]
        return make_history(rows, [name], self.encode)


def fit_all(
    records: Sequence[Record], names: Sequence[str], shots: Shots, params: EvaluateParams, encode: Encoder
) -> Fitted:
    """Fit every method of `evaluate.methods` on the records of these candidates. Raises DataError without any."""
    history = make_history(records, names, encode)
    routers: dict[RecordsMethod, Router] = {}
    failed: dict[str, str] = {}
    for method in (name for name in FITS if name in params.methods):
        try:
            routers[method] = FITS[method](history, params)
        except METHOD_FAULTS as error:
            failed[method] = str(error) or type(error).__name__
    return Fitted(routers, failed, records, shots, params, encode)


def played(params: EvaluateParams) -> dict[str, str]:
    """Methods of `evaluate.methods` that play episodes of their own -> why they are left out."""
    return {name: ALONE_ALL_THE_SAME if name in ALONE else NOT_PLAYED for name in PLAYS if name in params.methods}


def refusal(case: Case, method: RecordsMethod, router: Router) -> str:
    """Why a method cannot take part in a case; "" where it can."""
    if case.kind == "removed":
        return "" if isinstance(router, EstimatingRouter) else TOGETHER
    if case.kind == "base":
        return ""
    if method not in ONE_BY_ONE:
        return RETRAIN
    return NO_RECORDS if case.knowledge == "descriptor" else ""


def best(columns: Mapping[str, np.ndarray], costs: Mapping[str, float], names: Sequence[str]) -> list[Choice]:
    """For each question the candidate with the best estimate, of equals the cheaper."""
    order = sorted(names, key=lambda name: costs[name])
    places = np.argmax(np.stack([columns[name] for name in order], axis=1), axis=1)
    return [Choice((order[place],), order[place], costs[order[place]]) for place in places]
