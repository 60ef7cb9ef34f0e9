"""What has been spent and what is held back, by run, stage, candidate and day, and whether another call fits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.shared.errors import ConfigurationError
from stages.shared.params.pool import Budget
from stages.shared.pool.journal import Row
from stages.shared.pool.money import dollars

DAY_S = 86_400
RUN = "POINTSMAN_RUN"
"""The environment variable that names the run of the pipeline that a stage belongs to."""
BUDGET = "POINTSMAN_BUDGET"
"""The environment variable that sets what that run may cost, USD, where pool.limits.budget.run does not set less."""
Scope = tuple[str, str]
"""What a budget is about, and which one: ("candidate", "Arlix")."""


@dataclass
class Sum:
    """Picos of one scope."""

    spent: int = 0
    """Charged by providers."""
    held: int = 0
    """Held back at most: for calls under way, and for those of which nobody knows whether they were charged."""


@dataclass
class Account:
    """Fed with the ledger's rows, in any order of files; knows every sum that a budget may speak of."""

    stage: str
    sums: dict[Scope, Sum] = field(default_factory=lambda: defaultdict(Sum))
    _open: dict[str, tuple[tuple[Scope, ...], int]] = field(default_factory=dict)

    def began(self, row: Row, own: bool) -> None:
        """An attempt was begun, in this stage's journal or in another's."""
        scopes = self._scopes(row, own)
        for scope in scopes:
            self.sums[scope].held += row["most"]
        self._open[row["begin"]] = scopes, row["most"]

    def ended(self, row: Row) -> None:
        """An attempt ended; what it cost is null where nobody knows, and then the most stays held back."""
        scopes, most = self._open.pop(row["end"], ((), 0))
        if row["cost"] is None:
            return
        for scope in scopes:
            self.sums[scope].held -= most
            self.sums[scope].spent += row["cost"]

    def shortage(self, limits: Mapping[str, int], row: Row) -> str | None:
        """Which limit (by kind of scope, picos) an attempt would break, in words; None where it fits."""
        for kind, which in self._scopes(row, own=True):
            limit = limits.get(kind)
            if limit is None:
                continue
            known = self.sums[kind, which]
            if known.spent + known.held + row["most"] > limit:
                whose = f" for {which}" if kind in ("stage", "candidate") else ""
                given = " (or --budget)" if kind == "run" else ""
                return (
                    f"pool.limits.budget.{kind}{given} is {dollars(limit)}{whose}: {dollars(known.spent)} is spent, "
                    f"{dollars(known.held)} held for calls whose cost is not known yet, "
                    f"and a call to {row['candidate']} may take {dollars(row['most'])}"
                )
        return None

    def _scopes(self, row: Row, own: bool) -> tuple[Scope, ...]:
        shared = ("run", row["run"]), ("day", str(row["at"] // DAY_S))
        return (*shared, ("stage", self.stage), ("candidate", row["candidate"])) if own else shared


def with_given(budget: Budget) -> Budget:
    """The budget, and for the run no more than POINTSMAN_BUDGET. Raises ConfigurationError for what is no amount."""
    text = os.environ.get(BUDGET, "")
    if not text:
        return budget
    try:
        given = Budget(run=float(text)).run
    except ValueError as error:
        raise ConfigurationError(f"{BUDGET}={text!r} is no amount of USD above 0") from error
    return budget.model_copy(update={"run": given if budget.run is None else min(budget.run, given or budget.run)})
