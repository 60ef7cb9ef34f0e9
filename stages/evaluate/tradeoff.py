"""What a method gives for what it takes: money, time and calls, in the figures that the field reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.evaluate import behaviour, frontier
from stages.evaluate.arena import Optimality, arena_score, optimality
from stages.evaluate.sheet import Sheet


@dataclass(frozen=True)
class Taken:
    """What a method took, over all test questions alike."""

    latency_p50: float
    latency_p95: float
    called: Mapping[str, int]
    """Candidate -> calls."""
    optimality: Optimality


@dataclass(frozen=True)
class Tradeoff:
    """One method over all test sets; quality and cost as in its `average`, the rest over all questions alike."""

    latency_p50: float
    """Seconds of a question's calls, one after the other; the policy's own decoding is not in it."""
    latency_p95: float
    share: dict[str, float]
    """Of all calls, by candidate."""
    entropy: float
    """Of `share`, bits."""
    aiq: float
    """With asking nobody as the other end of its curve."""
    hypervolume: float
    arena: float
    """RouterArena's score."""
    optimality: Optimality
    gap_to_oracle: float
    """Average EM of the oracle minus this method's."""
    apgr: float | None
    """Average performance gap recovered, from the cheapest fixed candidate to the best one, over the cost between both;
    None where the best is the cheapest."""
    cpt50: float | None
    """Share of the way between these two costs at which half of that gap is recovered; None where it never is."""
    cpt80: float | None
    """The same for four fifths of the gap."""
    cost_at_equal_em: float | None
    """What the zero router (fixed candidates, mixed at random) pays for the same EM; None where it never gets there."""


@dataclass(frozen=True)
class Scale:
    """What every method is measured against."""

    highest_cost: float
    """Of the dearest fixed candidate: costs run from 0 to here."""
    fixed: Mapping[str, frontier.Point]
    """Candidate -> (cost, EM) of always asking it."""
    oracle: frontier.Point

    @property
    def gap(self) -> tuple[frontier.Point, frontier.Point]:
        """The cheapest fixed candidate, and the best one, of equals the cheaper: what APGR and CPT lie between."""
        weak = min(self.fixed.values())
        return weak, max(self.fixed.values(), key=lambda point: (point[1], -point[0]))

    @property
    def zero_router(self) -> float:
        """AIQ of random mixtures of the fixed candidates."""
        return frontier.aiq([*self.fixed.values()], self.highest_cost)


def taken(sheet: Sheet, oracle: Sheet) -> Taken:
    """Of one method; the oracle answered the same questions."""
    p50, p95 = (float(np.quantile(sheet.numbers("latency_s"), level)) for level in (0.5, 0.95))
    ours, bound = ((each.numbers("em"), each.numbers("cost")) for each in (sheet, oracle))
    return Taken(p50, p95, sheet.called(), optimality(*ours, *bound))


def tradeoff(took: Taken, point: frontier.Point, scale: Scale) -> Tradeoff:
    """Of one method, whose (cost, EM) is `point`."""
    share = behaviour.shares(took.called, [*scale.fixed])
    cost, em = point
    return Tradeoff(
        latency_p50=took.latency_p50,
        latency_p95=took.latency_p95,
        share=share,
        entropy=behaviour.entropy(share),
        aiq=frontier.aiq([point], scale.highest_cost),
        hypervolume=frontier.hypervolume([point], scale.highest_cost),
        arena=arena_score(em, cost),
        optimality=took.optimality,
        gap_to_oracle=scale.oracle[1] - em,
        apgr=frontier.apgr([point], *scale.gap),
        cpt50=frontier.cpt([point], *scale.gap, 0.5),
        cpt80=frontier.cpt([point], *scale.gap, 0.8),
        cost_at_equal_em=frontier.cost_of([frontier.NOBODY, *scale.fixed.values()], em),
    )
