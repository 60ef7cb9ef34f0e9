"""artifacts/evaluate/plots: what `dvc plots show` and `dvc plots diff` draw of an evaluation, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.evaluate.metrics import AVERAGE, ROUTER, Evaluation
from stages.shared.files import write_text

Table = Sequence[Mapping[str, object]]


def write_plots(folder: Path, evaluation: Evaluation) -> None:
    """methods.csv: a row a method, averaged over the sets; sets.csv: a row a test set, the router's; shares.csv: a row
    a candidate, of the router's calls. Rates between 0 and 1, costs in millionths of a dollar a question."""
    for name, rows in tables(evaluation).items():
        text = io.StringIO()
        writer = csv.DictWriter(text, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / f"{name}.csv", text.getvalue())


def tables(evaluation: Evaluation) -> dict[str, Table]:
    """Name -> rows of equal keys."""
    methods = [
        {"method": name, "em": cells[AVERAGE].em, "f1": cells[AVERAGE].f1, "cost": cells[AVERAGE].cost}
        for name, cells in evaluation.methods.items()
    ]
    sets = [
        {"set": name, "em": cell.em, "f1": cell.f1, "cost": cell.cost, "calls": cell.calls}
        for name, cell in evaluation.methods[ROUTER].items()
    ]
    shares = [{"candidate": name, "share": share} for name, share in evaluation.router.share.items()]
    return {"methods": methods, "sets": sets, "shares": shares}
