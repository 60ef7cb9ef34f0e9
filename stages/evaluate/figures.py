"""The main plots of an evaluation as SVG and PNG, for papers: `python -m stages.evaluate.figures`, `pointsman figures`.

Drawn from metrics/evaluate.json alone, so that they can be made again at any time, of any run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.evaluate.calibration import TABLE
from stages.evaluate.frontier import NOBODY, hull
from stages.evaluate.methods import describe
from stages.shared.entry import run_command
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import atomic_path, read_json, write_text, writing

VEGA_LITE = "5.21"
PIXELS = 3.0
"""Of a PNG, for each unit of the figure: about 290 dots an inch."""
KINDS = {"router": "#0b7a67", "bound": "#8a8f98", "baseline": "#b4611a", "candidate": "#4466b0", "control": "#8a5a9e"}
COST, EM = "cost a question, millionths of a dollar", "exact match, %"
Spec = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Shown:
    """What the figures are drawn from."""

    methods: Mapping[str, Mapping[str, Mapping[str, float]]]
    router: Mapping[str, Any]
    calibration: Mapping[str, Mapping[str, Any]]

    @property
    def rows(self) -> Rows:
        """A row a method: the averages over the sets."""
        found = []
        for name, cells in self.methods.items():
            about, cell = describe(name), cells["average"]
            found.append({"method": about.label, "kind": about.kind, "cost": cell["cost"],
                          **{key: 100 * cell[key] for key in ("em", "em_low", "em_high")}})  # fmt: skip
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, draw, name the files; return the exit code."""
    given = _parser().parse_args(argv)

    def _work() -> None:
        shown = read_shown(given.run / "metrics" / "evaluate.json")
        with writing(given.folder):
            drawn = draw(shown, given.folder)
        print(*drawn, sep="\n")

    return run_command(_work)


def read_shown(path: Path) -> Shown:
    """Raises ConfigurationError where there is no evaluation yet, IntegrityError where the file is none."""
    try:
        found = read_json(path)
        return Shown(found["methods"], found["router"], found.get("calibration", {}))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; `pointsman run` makes it, --run names another run") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is no evaluation ({error}); run the evaluate stage again") from error


def draw(shown: Shown, folder: Path) -> list[Path]:
    """Every figure as NAME.svg and NAME.png; the paths. Raises IntegrityError when the metrics lack a figure's data."""
    import vl_convert

    paths = []
    for name, spec in figures(shown).items():
        text = json.dumps({"$schema": "https://vega.github.io/schema/vega-lite/v5.json"} | spec)
        write_text(folder / f"{name}.svg", vl_convert.vegalite_to_svg(text, vl_version=VEGA_LITE))
        with atomic_path(folder / f"{name}.png") as part:
            part.write_bytes(vl_convert.vegalite_to_png(text, vl_version=VEGA_LITE, scale=PIXELS))
        paths += [folder / f"{name}.svg", folder / f"{name}.png"]
    return paths


def figures(shown: Shown) -> dict[str, Spec]:
    """Name -> the figure in Vega-Lite. Raises IntegrityError naming a key that the metrics lack."""
    try:
        note = "synthetic: generated questions, simulated experts" if shown.router["synthetic"] else ""
        found = {
            "ranking": ranking(shown.rows),
            "frontier": frontier(shown.rows),
            "shares": stacked(shown.router["share_by_set"], "of the calls on a test set, %", "candidate"),
            "calls": stacked(shown.router["calls_by_hops"], "of the questions of so many hops, %", "calls"),
            **({"calibration": calibration(shown.calibration)} if shown.calibration else {}),
        }
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"metrics/evaluate.json has no {error}; run the evaluate stage again") from error
    return {name: _titled(spec, note) for name, spec in found.items()}


def ranking(rows: Rows) -> Spec:
    """Every method's exact match with its interval, the best first."""
    place = {
        "y": {"field": "method", "sort": {"field": "em", "order": "descending"}, "title": None},
        "color": _colour(),
    }
    return {
        "width": 420, "height": {"step": 17}, "data": {"values": rows},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
             "encoding": {**place, "x": _number("em_low", EM), "x2": {"field": "em_high"}}},
            {"mark": {"type": "point", "filled": True, "size": 55}, "encoding": {**place, "x": _number("em", EM)}},
        ],
    }  # fmt: skip


def frontier(rows: Rows) -> Spec:
    """Exact match over cost, and the frontier of all that could be deployed."""
    deployed = [(row["cost"], row["em"]) for row in rows if row["kind"] in ("router", "baseline", "candidate")]
    line = [{"cost": cost, "em": em} for cost, em in hull([NOBODY, *deployed])]
    line.append({"cost": max(row["cost"] for row in rows), "em": line[-1]["em"]})
    place = {"x": _number("cost", COST), "color": _colour()}
    corners = {(row["cost"], row["em"]) for row in line}
    named = [row for row in rows if row["kind"] in ("router", "bound") or (row["cost"], row["em"]) in corners]
    return {
        "width": 480, "height": 320, "data": {"values": rows},
        "layer": [
            {"data": {"values": line}, "mark": {"type": "line", "color": "#8a8f98", "strokeDash": [4, 3]},
             "encoding": {"x": _number("cost", COST), "y": _number("em", EM)}},
            {"mark": {"type": "rule", "opacity": 0.4},
             "encoding": {**place, "y": _number("em_low", EM), "y2": {"field": "em_high"}}},
            {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": {**place, "y": _number("em", EM)}},
            {"data": {"values": named}, "mark": {"type": "text", "align": "left", "dx": 6, "dy": -6, "fontSize": 9},
             "encoding": {**place, "y": _number("em", EM), "text": {"field": "method"}}},
        ],
    }  # fmt: skip


def stacked(shares: Mapping[str, Mapping[str, float]], title: str, colour: str) -> Spec:
    """A bar for each group, of shares that add up to one."""
    rows = [
        {"group": group, colour: name, "share": 100 * share, "place": place}
        for group, found in shares.items()
        for place, (name, share) in enumerate(found.items())
    ]
    return {
        "width": 420, "height": {"step": 20}, "data": {"values": rows}, "mark": "bar",
        "encoding": {
            "y": {"field": "group", "sort": [*shares], "title": None}, "x": _number("share", title),
            "color": {"field": colour, "scale": {"scheme": "tableau10"}}, "order": {"field": "place"},
        },
    }  # fmt: skip


def calibration(found: Mapping[str, Mapping[str, Any]]) -> Spec:
    """Stated chance against observed share, a panel a method."""
    rows = [
        {"method": f"{label(name)}, ECE {item['ece']:.3f}", "stated": 100 * tenth["stated"],
         "observed": 100 * tenth["observed"], "n": tenth["n"]}
        for name, item in found.items() for tenth in item["bins"]
    ]  # fmt: skip
    x, y = _number("stated", "stated, %"), _number("observed", "observed, %")
    diagonal = [{"stated": at, "observed": at} for at in (0, 100)]
    return {
        "data": {"values": rows}, "facet": {"field": "method", "title": None}, "columns": 3,
        "spec": {"width": 170, "height": 170, "layer": [
            {"data": {"values": diagonal}, "mark": {"type": "line", "color": "#8a8f98", "strokeDash": [4, 3]},
             "encoding": {"x": x, "y": y}},
            {"mark": {"type": "point", "filled": True, "color": KINDS["baseline"]},
             "encoding": {"x": x, "y": y, "size": {"field": "n", "type": "quantitative", "title": "pairs"}}},
        ]},
    }  # fmt: skip


def label(name: str) -> str:
    """Of a method, or of the table that the prompt shows."""
    return "prompt's table" if name == TABLE else describe(name).label


def _number(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title}


def _colour() -> Spec:
    return {"field": "kind", "title": None, "scale": {"domain": [*KINDS], "range": [*KINDS.values()]}}


def _titled(spec: Spec, note: str) -> Spec:
    """On white; what is synthetic says so within the figure."""
    return {"background": "white", **({"title": {"text": note, "fontSize": 10}} if note else {})} | spec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pointsman figures", description="Draw the main plots as SVG and PNG.")
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--run", type=Path, default=Path(), help="folder of a run (default: this one)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
