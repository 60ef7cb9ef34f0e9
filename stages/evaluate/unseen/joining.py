"""How a fitted router takes in a candidate that it was not fitted on: nothing that it learned is learned again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from stages.evaluate.routers.acar import ranked
from stages.evaluate.routers.avengers import ClusterRouter
from stages.evaluate.routers.cascading import CascadingRouter
from stages.evaluate.routers.catalogue import FITS
from stages.evaluate.routers.consistency import seated
from stages.evaluate.routers.descriptions import Newcomer
from stages.evaluate.routers.estimating import Enlarged, EstimatingRouter
from stages.evaluate.routers.graphrouter import GraphRouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.irt import ItemResponseRouter
from stages.evaluate.routers.protocol import FittedRouter, Router
from stages.shared.params import EvaluateParams, RecordsMethod

Join = Callable[[FittedRouter, Sequence[Newcomer], EvaluateParams], Router]


def _one_by_one(method: RecordsMethod) -> Join:
    """Each candidate is estimated from its own records alone: a new one is estimated beside the others."""

    def join(router: FittedRouter, new: Sequence[Newcomer], params: EvaluateParams) -> Router:
        """The estimates of all of them, side by side."""
        parts = [cast(EstimatingRouter, each) for each in (router, *alone(method, new, params))]
        return Enlarged(
            tuple(name for part in parts for name in part.history.candidates),
            np.concatenate([part.history.mean_costs for part in parts]),
            lambda asked: np.concatenate([part.estimate(asked) for part in parts], axis=1),
        )

    return join


def _cascading(router: FittedRouter, new: Sequence[Newcomer], params: EvaluateParams) -> Router:
    """A classifier and a scorer for each new candidate; lambda stays what it was."""
    known = cast(CascadingRouter, router)
    return known.joined([cast(CascadingRouter, each) for each in alone("cascade-routing", new, params)])


def alone(method: RecordsMethod, new: Sequence[Newcomer], params: EvaluateParams) -> list[FittedRouter]:
    """The method on the records of each newcomer by itself. Raises DataError where they are too few for it."""
    return [FITS[method](records(item), params) for item in new]


def records(item: Newcomer) -> History:
    """Of a newcomer that has any."""
    assert item.records is not None
    return item.records


def means(router: FittedRouter, new: Sequence[Newcomer]) -> History:
    """One row, in which everyone's score and cost are the means of its own records: some rules read nothing else."""
    return router.history.averaged([records(item) for item in new])


BY_DESCRIPTION: Mapping[RecordsMethod, Join] = {
    "graphrouter": lambda router, new, params: cast(GraphRouter, router).joined(new),
    "irt-router": lambda router, new, params: cast(ItemResponseRouter, router).joined(new),
}
"""They start from what is said of a candidate, and need no record of it."""
BY_RECORDS: Mapping[RecordsMethod, Join] = {
    "knn": _one_by_one("knn"),
    "correctness": _one_by_one("correctness"),
    "avengers-pro": lambda router, new, params: cast(ClusterRouter, router).joined([records(item) for item in new]),
    "cascade-routing": _cascading,
    "consistency-cascade": lambda router, new, params: seated(means(router, new)),
    "acar": lambda router, new, params: ranked(means(router, new)),
}
"""They ask of a candidate no more than its own records."""
