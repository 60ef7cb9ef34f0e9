"""The candidates of a release while it answers: who may be asked, by which budget, and where calls are written down."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from stages.shared.episode.types import Roster
from stages.shared.params import Budget, Params
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.client import HttpPool
from stages.shared.pool.fallback import open_pool, within_reach
from stages.shared.pool.ledger import FOLDER, Place, open_ledger
from stages.shared.pool.setting import setting
from stages.shared.workspace import Workspace


def books(params: Params, workspace: Workspace, stage: Literal["ask", "serve"]) -> Place:
    """The ledger of what answering costs. No answer is taken from there: who asks wants today's."""
    return Place(workspace.runs(FOLDER), stage, setting(params.pool, params.world), since=math.inf)


@asynccontextmanager
async def calling(
    roster: Roster, params: Params, candidates: Sequence[Candidate], place: Place
) -> AsyncIterator[HttpPool]:
    """A pool of those in the roster, and of those who may answer in their place where the release has a fallback graph.

    Every call is in the ledger. Of the release's own budgets that of the day holds; the others bound what made it.
    Raises as `HttpPool.check` does.
    """
    limits = params.pool.limits
    reached = within_reach({entry.name for entry in roster.entries}, limits.fallback, "serve")
    with open_ledger(place, Budget(day=limits.budget.day)) as ledger:
        async with open_pool([each for each in candidates if each.name in reached], limits, ledger, "serve") as pool:
            await pool.check()
            yield pool
        ledger.turn_page()
