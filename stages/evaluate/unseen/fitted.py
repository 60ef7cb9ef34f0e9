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
from stages.evaluate.routers.history import make_history
from stages.evaluate.routers.played import ALONE
from stages.evaluate.routers.protocol import Asked, Choice, FittedRouter, Router
from stages.evaluate.unseen.cases import Case
from stages.evaluate.unseen.shots import Shots
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams, RecordsMethod

ONE_BY_ONE: frozenset[RecordsMethod] = frozenset({"knn", "correctness"})
"""They estimate each candidate from its own records alone: a new one is estimated beside the others."""
NO_RECORDS = "cannot: it learns from records, and there are none of the new candidate"
RETRAIN = "cannot: it would have to be fitted again, with records of all its candidates"
ALONE_ALL_THE_SAME = "left out: it calls no candidate, so that none is new to it"
TOGETHER = "cannot: it would have to be fitted again, since what it learned is about the candidate that left"


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

    routers: Mapping[RecordsMethod, FittedRouter]
    failed: Mapping[str, str]
    records: Sequence[Record]
    shots: Shots
    params: EvaluateParams
    encode: Encoder

    def decide(self, case: Case, asked: Asked) -> Outcome:
        """Every method's choices for a case, or why it has none."""
        found = Outcome(cannot={str(name): ALONE_ALL_THE_SAME for name in ALONE if name in self.params.methods})
        for method in (name for name in FITS if name in self.params.methods):
            try:
                router = self.ready(case, method)
                if isinstance(router, str):
                    found.cannot[method] = router
                else:
                    found.choices[method] = router.decide(asked)
            except METHOD_FAULTS as error:
                found.failed[method] = str(error) or type(error).__name__
        return found

    def ready(self, case: Case, method: RecordsMethod) -> Router | str:
        """A method for a case, as it stands; or why it cannot take part.

        Raises DataError where it could not be fitted, or too few candidates are left for it.
        """
        if method in self.failed:
            raise DataError(self.failed[method])
        router = self.routers[method]
        if case.kind == "base":
            return router
        if case.kind == "removed":
            return router.without(case.removed) or TOGETHER
        if method not in ONE_BY_ONE or not isinstance(router, EstimatingRouter):
            return RETRAIN
        if case.knowledge == "descriptor":
            return NO_RECORDS
        return Widened((router, *(self._alone(case, method, name) for name in case.new)))

    def _alone(self, case: Case, method: RecordsMethod, name: str) -> EstimatingRouter:
        """Fitted on what is known of a new candidate."""
        rows = self.records if case.knowledge == "profile" else self.shots.records[name]
        found = FITS[method](make_history(rows, [name], self.encode), self.params)
        assert isinstance(found, EstimatingRouter)
        return found


@dataclass(frozen=True)
class Widened:
    """Routers that estimate candidates of their own, as one."""

    parts: tuple[EstimatingRouter, ...]

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        """For each question the candidate with the best estimate, of equals the cheaper; `thrift` has no say."""
        names = [name for part in self.parts for name in part.history.candidates]
        costs = np.concatenate([part.history.mean_costs for part in self.parts])
        estimates = np.concatenate([part.estimate(asked) for part in self.parts], axis=1)
        order = np.argsort(costs, kind="stable")
        places = order[np.argmax(estimates[:, order], axis=1)]
        return [Choice((names[place],), names[place], float(costs[place])) for place in places]


def fit_all(
    records: Sequence[Record], names: Sequence[str], shots: Shots, params: EvaluateParams, encode: Encoder
) -> Fitted:
    """Fit every method of `evaluate.methods` on the records of these candidates, and what a played one needs.

    Raises DataError without any record.
    """
    history = make_history(records, names, encode)
    routers: dict[RecordsMethod, FittedRouter] = {}
    failed: dict[str, str] = {}
    needed = {*params.methods, *(["knn"] if "knn-multi" in params.methods else [])}
    for method in (name for name in FITS if name in needed):
        try:
            routers[method] = FITS[method](history, params)
        except METHOD_FAULTS as error:
            failed[method] = str(error) or type(error).__name__
    return Fitted(routers, failed, records, shots, params, encode)
