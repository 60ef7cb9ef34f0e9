"""Fit routers on published records: `python -m stages.evaluate.tables FOLDER`, and `pointsman records evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from stages.evaluate.routers.catalogue import FITS, LOOK, SLOW
from stages.evaluate.routers.encoder import Kept, minilm
from stages.evaluate.tables.contest import Standing, hold
from stages.evaluate.tables.read import read_records_folder
from stages.shared.entry import run_command
from stages.shared.errors import ConfigurationError
from stages.shared.params import EvaluateParams
from stages.shared.params.evaluate import Method, known_method
from stages.shared.workspace import Workspace

HEADINGS = ("method", "accuracy", "interval", "cost", "AIQ", "APGR", "CPT", "entropy", "fit s", "decide ms")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, fit, print; return the exit code."""
    given = _parser().parse_args(argv)

    def _work() -> None:
        methods = chosen(given.methods)
        table = read_records_folder(given.folder, given.seed, given.without)
        encode = Kept(minilm, Workspace(Path.cwd()).state / "embeddings")
        standing = hold(table, methods, encode, EvaluateParams(seed=given.seed))
        print(json.dumps(asdict(standing), indent=2) if given.json else text(standing))

    return run_command(_work)


def chosen(names: str) -> tuple[Method, ...]:
    """Methods by name, commas between; all that need no replies and no minutes where none is named.

    Raises ConfigurationError with the closest name for one that is not known.
    """
    if not names:
        return tuple(name for name in FITS if name not in LOOK | SLOW)
    try:
        return tuple(known_method(name.strip()) for name in names.split(","))
    except ValueError as error:
        raise ConfigurationError(f"--methods: {error}") from error


def text(standing: Standing) -> str:
    """As a table of fixed columns."""
    rows = [HEADINGS]
    for score in standing.scores:
        rows.append((
            score.method, f"{score.accuracy:.4f}", f"{score.low:.3f} to {score.high:.3f}", f"{score.cost:.4g}",
            f"{score.aiq:.4f}", _share(score.apgr), _share(score.cpt), f"{score.entropy:.2f}", f"{score.fit_s:.2f}",
            f"{score.decide_ms:.3f}",
        ))  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{method}  failed: {reason}" for method, reason in standing.failed.items()]
    return "\n".join([
        f"{standing.source}: {standing.n_train} questions to fit on, {standing.n_test} to test on, "
        f"{len(standing.candidates)} candidates; cost in {standing.cost_unit}",
        *lines,
        f"AIQ of the candidates mixed at random (zero router): {standing.zero_router:.4f}",
    ])  # fmt: skip


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pointsman records evaluate", description="Fit routers on published records.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="", help="names with commas between (default: all that need neither "
                        "replies nor, as bert does, minutes)")  # fmt: skip
    parser.add_argument("--without", action="append", default=[], help="a task to leave out (LLMRouter's layout)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
