"""What a sweep found: quality against cost, with intervals, beside the methods that learn nothing of the swept kind."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stages.shared.errors import IntegrityError
from stages.shared.files import write_json, write_text

ROUTER, ORACLE = "router", "oracle"
NOT_BASELINES = (ROUTER, "forced:", "one-call", "renamed", "warm-start-renamed")
HEADINGS = ("what", "EM", "interval", "cost", "calls", "seeds", "frontier")
LEGEND = (
    "EM: the unweighted mean of the test sets. Interval: of one seed over questions, of several over questions and "
    "seeds together, as `pointsman seeds` pools them; how seeds differ is in frontier.json. Cost: millionths of a "
    "dollar a question. Frontier: no other setting of the router is both at most as dear and at least as good."
)
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }}
td, th {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
td:first-child, th:first-child {{ text-align: left }}</style>
<h1>{title}</h1>{note}{figure}<table><tr>{head}</tr>{body}</table><p>{legend}</p></html>
"""


@dataclass(frozen=True)
class Mark:
    """One method, or one setting of the router, averaged over its seeds."""

    name: str
    em: float
    low: float
    high: float
    cost: float
    calls: float
    swept: bool
    seeds: int = 1
    em_by_seed: tuple[float, ...] = ()
    on_frontier: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEADINGS`."""
        interval = f"{self.low:.3f} to {self.high:.3f}"
        cost, calls = f"{self.cost:.1f}", f"{self.calls:.2f}"
        return (self.name, f"{self.em:.3f}", interval, cost, calls, str(self.seeds), "yes" if self.on_frontier else "")


def marks(found: Mapping[str, Sequence[Mapping[str, Any]]], pools: Mapping[str, Mapping[str, Any]]) -> list[Mark]:
    """Settings in their order, each with the evaluations of its seeds; then the baselines, best first.

    `pools`: a setting of several seeds -> what `pointsman seeds` makes of them. Baselines are those of the first
    evaluation, since no swept parameter of training or reward touches them. Raises IntegrityError for an evaluation of
    another shape.
    """
    try:
        settings = [
            _mark(name, [each["methods"][ROUTER] for each in seeds], pools.get(name), swept=True)
            for name, seeds in found.items()
        ]
        first = next(iter(found.values()))[0]["methods"]
        others = [
            _mark(name, [sets], None, swept=False) for name, sets in first.items() if not name.startswith(NOT_BASELINES)
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise IntegrityError(f"an experiment's metrics/evaluate.json is not an evaluation ({error!r})") from error
    best = sorted(others, key=lambda mark: mark.em, reverse=True)
    return [*(_placed(mark, settings) for mark in settings), *best]


def _mark(name: str, methods: Sequence[Mapping[str, Any]], pool: Mapping[str, Any] | None, swept: bool) -> Mark:
    averages = [method["average"] for method in methods]
    by_seed = tuple(float(average["em"]) for average in averages)
    cost, calls = (fmean(float(average[key]) for average in averages) for key in ("cost", "calls"))
    if len(averages) > 1:
        together = pool["methods"][ROUTER] if pool else {}
        em, low, high = (float(together[key]) for key in ("em", "low", "high"))
    else:
        em, low, high = (float(averages[0][key]) for key in ("em", "em_low", "em_high"))
    return Mark(name, em, low, high, cost, calls, swept, seeds=len(averages), em_by_seed=by_seed)


def _placed(mark: Mark, others: Sequence[Mark]) -> Mark:
    beaten = any(
        other.cost <= mark.cost and other.em >= mark.em and (other.cost, other.em) != (mark.cost, mark.em)
        for other in others
    )
    return Mark(**{**asdict(mark), "on_frontier": not beaten})


def write_frontier(folder: Path, title: str, found: Sequence[Mark], synthetic: bool) -> Path:
    """frontier.json, frontier.svg and frontier.html, which needs nothing else; the path of the last."""
    svg = draw(found)
    note = "<p><b>Synthetic</b>: generated questions, simulated experts.</p>" if synthetic else ""
    body = "".join(f"<tr>{_cells(mark.cells, 'td')}</tr>" for mark in found)
    page = PAGE.format(
        title=html.escape(title), note=note, figure=svg, head=_cells(HEADINGS, "th"), body=body, legend=LEGEND
    )
    write_json(folder / "frontier.json", {"title": title, "synthetic": synthetic, "marks": [asdict(m) for m in found]})
    write_text(folder / "frontier.svg", svg)
    write_text(folder / "frontier.html", page)
    return folder / "frontier.html"


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def draw(found: Sequence[Mark]) -> str:
    """The figure as SVG: settings joined in their order with intervals, baselines in grey."""
    import vl_convert

    rows = [asdict(mark) | {"order": place} for place, mark in enumerate(found)]
    cost = {"field": "cost", "type": "quantitative", "title": "cost, millionths of a dollar a question"}
    quality = {"type": "quantitative", "title": "exact match", "scale": {"zero": False}}
    colour = {"condition": {"test": "datum.swept", "value": "#2563eb"}, "value": "#9ca3af"}
    place = {"x": cost, "y": {**quality, "field": "em"}, "color": colour}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json", "width": 640, "height": 400,
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "line", "strokeDash": [4, 3]}, "transform": [{"filter": "datum.swept"}],
             "encoding": {**place, "order": {"field": "order"}}},
            {"mark": {"type": "rule", "strokeWidth": 1.5},
             "encoding": {"x": cost, "y": {**quality, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": place},
            {"mark": {"type": "text", "align": "left", "dx": 7, "dy": -6, "fontSize": 10},
             "encoding": {**place, "text": {"field": "name"}}},
        ],
    }  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version="5.21")
    return svg
