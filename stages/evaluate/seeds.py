"""Several trainings of one setting as one result: `python -m stages.evaluate.seeds RUN RUN…`, and `pointsman seeds`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from stages.evaluate.diff.__main__ import sureness
from stages.evaluate.diff.changes import changes
from stages.evaluate.diff.compare import ROUTER, Sureness, obstacles
from stages.evaluate.diff.run import Episodes, Run, read_run
from stages.evaluate.diff.text import plain, table
from stages.evaluate.statistics import Resamples, Values
from stages.shared.entry import run_command
from stages.shared.errors import ConfigurationError

SEEDS = ("train.seed", "evaluate.seed")
"""What may differ between runs that are pooled."""
HEADINGS = ("method", "EM", "interval", "spread of seeds", "each", "cost")


@dataclass(frozen=True)
class Pooled:
    """One method over all runs."""

    em: float
    low: float
    high: float
    """Of an interval over both questions and seeds."""
    spread: float
    """Standard deviation of the seeds' EM."""
    by_run: tuple[float, ...]
    cost: float
    """Millionths of a dollar a question."""


@dataclass(frozen=True)
class Pool:
    """Every method that all runs have."""

    runs: tuple[str, ...]
    confidence: float
    n: int
    methods: Mapping[str, Pooled]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, pool, print; return the exit code."""
    given = _parser().parse_args(argv)
    names = [
        name or str(folder) for folder, name in zip(given.runs, [*given.name, *[""] * len(given.runs)], strict=False)
    ]

    def _work() -> None:
        runs = [read_run(folder, name) for folder, name in zip(given.runs, names, strict=True)]
        found = pool(runs, sureness(runs[0]))
        print(json.dumps(asdict(found), indent=2, allow_nan=False) if given.json else text(found))

    return run_command(_work)


def pool(runs: Sequence[Run], how: Sureness) -> Pool:
    """Pool runs that differ in nothing but their seeds. Raises ConfigurationError naming what else differs."""
    if len(runs) < 2:
        raise ConfigurationError("one run is nothing to pool; give two or more that differ in train.seed")
    for other in runs[1:]:
        check_alike(runs[0], other)
    common = [name for name in runs[0].methods if all(name in run.methods for run in runs)]
    keys = [*runs[0].methods[ROUTER]]
    methods = {name: _pooled([run.methods[name] for run in runs], keys, how) for name in common}
    return Pool(tuple(run.name for run in runs), how.confidence, len(keys), methods)


def check_alike(first: Run, other: Run) -> None:
    """Raises ConfigurationError where two runs are not of one setting and the same questions."""
    found = changes(first, other)
    reasons = obstacles(first, other, found)
    reasons += [f"{item.part}: {item.key} is {item.before} and {item.after}" for item in found
                if item.key not in SEEDS and item.part != "price"]  # fmt: skip
    if reasons:
        listed = "".join(f"\n  {reason}" for reason in reasons)
        raise ConfigurationError(f"{first.name} and {other.name} differ in more than their seeds:{listed}")


def text(found: Pool) -> str:
    """As a Markdown table, the best first."""
    order = sorted(found.methods, key=lambda name: -found.methods[name].em)
    rows = [(plain(name), *_cells(found.methods[name])) for name in order]
    return (
        f"{table(HEADINGS, rows)}\n\n{len(found.runs)} runs, {found.n} questions. EM: mean over runs of the unweighted "
        f"mean of the test sets. Interval: {found.confidence:.0%}, questions and runs both resampled; of few runs it "
        "is a rough one. Cost: millionths of a dollar a question.\n"
    )


def _cells(item: Pooled) -> tuple[str, ...]:
    each = ", ".join(f"{value:.3f}" for value in item.by_run)
    return f"{item.em:.3f}", f"{item.low:.3f} to {item.high:.3f}", f"{item.spread:.3f}", each, f"{item.cost:.2f}"


def _pooled(groups: Sequence[Episodes], keys: Sequence[tuple[str, str]], how: Sureness) -> Pooled:
    ems = [_values(group, keys, "em") for group in groups]
    costs = [_values(group, keys, "cost") for group in groups]
    draws = Resamples({name: len(column) for name, column in ems[0].items()}, how.resamples, how.confidence, how.seed)
    found, by_run = draws.pooled(ems, how.seed), tuple(_average(each) for each in ems)
    return Pooled(found.value, found.low, found.high, stdev(by_run), by_run, fmean(_average(each) for each in costs))


def _values(group: Episodes, keys: Sequence[tuple[str, str]], field: str) -> Values:
    sets = dict.fromkeys(dataset for dataset, _ in keys)
    return {name: np.array([getattr(group[key], field) for key in keys if key[0] == name]) for name in sets}


def _average(values: Values) -> float:
    return float(np.mean([column.mean() for column in values.values()]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pointsman seeds", description="Pool runs that differ in their seeds alone.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--name", action="append", default=[], help="what to call each, in order (default: its folder)")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
