"""What a router that was fitted on records does with candidates that it was not fitted on, as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from stages.evaluate.contest import METHOD_FAULTS
from stages.evaluate.records import Record
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.descriptions import Newcomer, describe
from stages.evaluate.routers.encoder import Encoder
from stages.evaluate.routers.history import History, make_history
from stages.evaluate.routers.played import ALONE
from stages.evaluate.routers.protocol import Asked, Choice, FittedRouter, Router
from stages.evaluate.unseen.cases import Case
from stages.evaluate.unseen.joining import BY_DESCRIPTION, BY_RECORDS
from stages.evaluate.unseen.shots import Shots
from stages.shared.errors import DataError
from stages.shared.params import EvaluateParams, RecordsMethod
from stages.shared.pool.candidate import Descriptor

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

    history: History
    """What they were fitted on."""
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
        join = BY_DESCRIPTION.get(method) or BY_RECORDS.get(method)
        if join is None:
            return RETRAIN
        if case.knowledge == "descriptor" and method in BY_RECORDS:
            return NO_RECORDS
        return join(router, [self._newcomer(case, name) for name in case.new], self.params)

    def _newcomer(self, case: Case, name: str) -> Newcomer:
        """What is known of a new candidate in this case; without records its price tells what a question costs."""
        shown = {item.name: item for item in case.descriptors}
        described = self.encode([describe(shown[name])])[0]
        if case.knowledge == "descriptor":
            known = zip(self.history.candidates, self.history.mean_costs, strict=True)
            tokens = fmean([cost / shown[other].price for other, cost in known if shown[other].price] or [0.0])
            return Newcomer(name, described, tokens * shown[name].price)
        rows = self.records if case.knowledge == "profile" else self.shots.records[name]
        own = make_history(rows, [name], self.encode, {name: describe(shown[name])})
        return Newcomer(name, described, float(own.mean_costs[0]), own)


def fit_all(
    records: Sequence[Record], known: Sequence[Descriptor], shots: Shots, params: EvaluateParams, encode: Encoder
) -> Fitted:
    """Fit every method of `evaluate.methods` on the records of these candidates, and what a played one needs.

    Raises DataError without any record.
    """
    told = {item.name: describe(item) for item in known}
    history = make_history(records, list(told), encode, told)
    routers: dict[RecordsMethod, FittedRouter] = {}
    failed: dict[str, str] = {}
    needed = {*params.methods, *(["knn"] if "knn-multi" in params.methods else [])}
    for method in (name for name in FITS if name in needed):
        try:
            routers[method] = FITS[method](history, params)
        except METHOD_FAULTS as error:
            failed[method] = str(error) or type(error).__name__
    return Fitted(history, routers, failed, records, shots, params, encode)
