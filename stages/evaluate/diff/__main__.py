"""Compare two finished evaluations: `python -m stages.evaluate.diff BEFORE AFTER`, and `pointsman diff`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stages.evaluate.diff.compare import ROUTER, Diff, Sureness, compare
from stages.evaluate.diff.page import render
from stages.evaluate.diff.prices import read_prices, reprice
from stages.evaluate.diff.run import Run, read_run
from stages.evaluate.diff.text import markdown
from stages.shared.entry import run_command
from stages.shared.errors import ConfigurationError
from stages.shared.files import write_text, writing


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, compare, print; return the exit code."""
    given = _parser().parse_args(argv)

    def _work() -> None:
        runs = [read_run(folder, name or str(folder)) for folder, name in _folders(given)]
        (before, after), note = at_prices(runs, given.prices, given.method) if given.prices else (runs, "")
        found = compare(before, after, given.method, given.force, sureness(after))
        show(replace(found, repriced=note), given)

    return run_command(_work)


def show(diff: Diff, given: argparse.Namespace) -> None:
    """Write the page where one is wanted, and print the rest."""
    if given.html:
        with writing(given.html):
            write_text(given.html, render(diff))
    if given.json:
        print(json.dumps(asdict(diff), indent=2, ensure_ascii=False, allow_nan=False))
    elif given.markdown or not sys.stdout.isatty():
        print(markdown(diff, given.flips), end="")
    else:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(markdown(diff, given.flips)))


def at_prices(runs: Sequence[Run], path: Path, method: str) -> tuple[list[Run], str]:
    """The runs at the prices of a file, and what to say of that. Raises ConfigurationError where `method` is lost."""
    prices = read_prices(path)
    found = [reprice(run, prices) for run in runs]
    lost = [item.run.name for item in found if method in item.left_out]
    if lost:
        raise ConfigurationError(
            f"{lost[0]} was evaluated before the tokens of calls were kept, so {method} has no cost at other prices; "
            "evaluate it again (`pointsman run --only evaluate --force`), or compare a fixed candidate with --method"
        )
    missing = [f"{', '.join(item.left_out)} of {item.run.name}" for item in found if item.left_out]
    note = f"Both runs at the prices of {path.name}: what the same calls would have cost; nobody chose anew."
    if missing:
        note += f" Left out, since the tokens of their calls were not kept: {'; '.join(missing)}."
    return [item.run for item in found], note


def sureness(run: Run) -> Sureness:
    """Intervals as the later run makes its own."""
    settings: Mapping[str, Any] = run.params.get("evaluate") or {}
    return Sureness(**{name: settings[name] for name in ("confidence", "resamples", "seed") if name in settings})


def _folders(given: argparse.Namespace) -> list[tuple[Path, str]]:
    return [(given.before, given.name_before), (given.after, given.name_after)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pointsman diff", description="Compare two finished evaluations.")
    parser.add_argument("before", type=Path, help="folder of a run: params.yaml, metrics/, artifacts/evaluate")
    parser.add_argument("after", type=Path)
    parser.add_argument("--name-before", default="", help="what to call the first (default: its folder)")
    parser.add_argument("--name-after", default="")
    parser.add_argument("--method", default=ROUTER, help="whose sets, candidates and flips (default: %(default)s)")
    parser.add_argument("--flips", type=int, default=6, help="flipped questions to print (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="compare what cannot be compared, on common questions")
    parser.add_argument("--prices", type=Path, help="count both at these prices: a table NAME: PRICE, or a params.yaml")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="Markdown (also where the output is no terminal)")
    parser.add_argument("--html", type=Path, help="also write a page, with every flipped question")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
