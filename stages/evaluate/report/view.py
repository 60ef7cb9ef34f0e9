"""What the report shows, worked out from the metrics: the template only lays it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.evaluate import frontier
from stages.evaluate.behaviour import SINGLE_HOP
from stages.evaluate.methods import Description, describe
from stages.evaluate.metrics import (
    AVERAGE,
    ROUTER,
    Cell,
    Comparison,
    Difference,
    Evaluation,
    Methods,
    ReplyCell,
    point,
)
from stages.evaluate.report import charts
from stages.shared.pool.candidate import Descriptor

KINDS = ("router", "bound", "baseline", "candidate", "control")


@dataclass(frozen=True)
class Row:
    """A method in the ranking and in the table."""

    about: Description
    average: Cell
    whisker: charts.Whisker
    cells: tuple[tuple[str, Cell, charts.Whisker], ...]
    versus: Comparison | None
    """Router minus this method; None for the router itself."""


@dataclass(frozen=True)
class CallsRow:
    """Mean calls a question on one set."""

    dataset: str
    several_hops: bool
    calls: float
    whisker: charts.Whisker


def rows(methods: Methods, versus: Mapping[str, Comparison]) -> list[Row]:
    """Methods from the best average EM to the worst; where EM ties, the cheaper first."""
    order = sorted(methods, key=lambda name: (-methods[name][AVERAGE].em, methods[name][AVERAGE].cost, name))
    return [_row(name, methods[name], versus.get(name)) for name in order]


def reply_rows(evaluation: Evaluation) -> list[tuple[Description, ReplyCell, Cell]]:
    """The second mode, averaged over the sets, beside the first; whose replies hold most, first."""
    cells = {name: sets[AVERAGE] for name, sets in evaluation.replies.items()}
    order = sorted(cells, key=lambda name: (-cells[name].holds, -cells[name].em, name))
    return [(describe(name), cells[name], evaluation.methods[name][AVERAGE]) for name in order]


def verdict(evaluation: Evaluation) -> str:
    """The outcome in a sentence or two, with its uncertainty."""
    methods, router = evaluation.methods, evaluation.router
    ours, oracle = methods[ROUTER][AVERAGE], methods["oracle"][AVERAGE]
    rival = describe(router.best_baseline)
    gap = router.versus[router.best_baseline]
    name = rival.label if rival.kind == "baseline" else f"always calling {rival.label}"
    sentence = (
        f"The router answers {percent(ours.em)} of the questions, {_apart(gap)} {name}, the best of the baselines"
    )
    if gap.low <= 0 <= gap.high:
        sentence += "; with this many questions the two cannot be told apart"
    reach = (
        f"It reaches {percent(ours.em / oracle.em)} of what an oracle could get out of the same pool"
        if oracle.em
        else ""
    )
    return f"{sentence}. {reach}, at {ratio(ours.cost, oracle.cost)} its cost." if reach else f"{sentence}."


def scatter(methods: Methods) -> charts.Scatter:
    """EM over cost, the router and the oracle labelled first."""
    about = sorted((describe(name) for name in methods), key=lambda item: KINDS.index(item.kind))
    spots = []
    for item in about:
        cell = methods[item.method][AVERAGE]
        spots.append(charts.Spot(item.label, item.kind, cell.cost, cell.em, cell.em_low, cell.em_high))
    fixed, deployable = (
        [point(methods[item.method]) for item in about if item.kind in kinds]
        for kinds in (("candidate",), ("candidate", "baseline", "router"))
    )
    lines = {
        "frontier of everything that could be deployed": frontier.hull([frontier.NOBODY, *deployable]),
        "fixed candidates, mixed at random (zero router)": frontier.hull([frontier.NOBODY, *fixed]),
    }
    return charts.scatter(spots, lines)


def calls(methods: Methods) -> list[CallsRow]:
    """Mean calls of the router on each set, single-hop sets first."""
    cells = {name: cell for name, cell in methods[ROUTER].items() if name != AVERAGE}
    top = max(1.0, math.ceil(max(cell.calls for cell in cells.values())))
    found = [
        CallsRow(name, name not in SINGLE_HOP, cell.calls, charts.whisker(cell.calls, 0, 0, top))
        for name, cell in cells.items()
    ]
    return sorted(found, key=lambda row: row.several_hops)


def leaders(descriptors: Sequence[Descriptor]) -> dict[str, frozenset[str]]:
    """Topic -> the seen candidates that were measured best on it."""
    found = {}
    for topic in sorted({topic for item in descriptors for topic in item.skill}):
        known = {item.name: item.skill[topic].em for item in descriptors if item.seen and topic in item.skill}
        found[topic] = frozenset(name for name, skill in known.items() if skill == max(known.values()))
    return found


def percent(share: float) -> str:
    """0.416 -> `41.6 %`."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares in points, signed: 0.041 -> `+4.1`."""
    return f"{100 * share:+.1f}".replace("-", "−")


def ratio(ours: float, theirs: float) -> str:
    """How many times `theirs`."""
    return f"{ours / theirs:.1f} times" if theirs else "no part of"


def _apart(gap: Difference) -> str:
    word = "more than" if gap.difference >= 0 else "fewer than"
    low, high = sorted((abs(gap.low), abs(gap.high))) if gap.low * gap.high > 0 else (gap.low, gap.high)
    return f"{abs(100 * gap.difference):.1f} points ({100 * low:.1f} to {100 * high:.1f}) {word}"


def _row(name: str, cells: Mapping[str, Cell], versus: Comparison | None) -> Row:
    average = cells[AVERAGE]
    sets = tuple((dataset, cell, _whisker(cell)) for dataset, cell in cells.items())
    return Row(describe(name), average, _whisker(average), sets, versus)


def _whisker(cell: Cell) -> charts.Whisker:
    return charts.whisker(cell.em, cell.em_low, cell.em_high)
