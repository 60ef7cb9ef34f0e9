"""metrics/headline.json: what `dvc metrics diff` shows of an evaluation; evaluate.json holds all of it."""

from __future__ import annotations

from typing import Any

from stages.evaluate.metrics import AVERAGE, ROUTER, Evaluation

ROUNDED = 4
"""Digits: what differs by less is no news."""


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """The router over all sets, its EM by set, its shares of calls, and every method's EM and cost, over all sets."""
    router = evaluation.methods[ROUTER]
    shown = ("em", "em_low", "em_high", "f1", "cost", "cost_total", "calls")
    averages = {name: cells[AVERAGE] for name, cells in evaluation.methods.items()}
    found: dict[str, dict[str, float]] = {
        "router": {name: getattr(router[AVERAGE], name) for name in shown},
        "em_by_set": {name: cell.em for name, cell in router.items() if name != AVERAGE},
        "share": dict(evaluation.router.share),
        "em": {name: cell.em for name, cell in averages.items()},
        "cost": {name: cell.cost for name, cell in averages.items()},
    }
    return {part: {name: round(value, ROUNDED) for name, value in row.items()} for part, row in found.items()}
