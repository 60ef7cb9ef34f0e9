"""What a run of another size would take: the last run's figures, in proportion, and the memory that the bench found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.estimate import Figures, candidates_of, figures
from flows.report import read_metrics
from stages.shared.params import load_params

STAGES = ("ingest", "profile", "train", "evaluate", "publish")
BENCH = Path("metrics") / "bench" / "scale.json"
SETS = 7


@dataclass(frozen=True)
class Larger:
    """A stage in a run of another size; None where the last run left no figure."""

    stage: str
    factor: float
    """Of calls and dollars."""
    found: Figures
    why: str


def extrapolate(root: Path, questions: int, candidates: int) -> list[Larger]:
    """Each stage with so many test questions and candidates, else the parameters as they are.

    Every candidate is asked every test question and every part of one; training takes its steps, however many
    questions there are to draw from. Time of ingest and evaluation is that of one process on a machine like this one.
    """
    params = load_params(root / "params.yaml")
    tests, known = SETS * params.ingest.sizes.test, candidates_of(params.model_dump())
    more, wider = questions / tests, candidates / known
    drawn = params.ingest.sizes
    kept = (drawn.train + drawn.profiling + drawn.validation) * len(params.ingest.train_on)
    grown = (kept + questions) / (kept + tests)
    factors = {
        "ingest": (grown, "x its questions"),
        "profile": (wider, "x the candidates"),
        "train": (1.0, "as it is: its steps are set"),
        "evaluate": (more * wider, "x the test questions, x the candidates"),
        "publish": (1.0, "as it is"),
    }
    metrics = read_metrics(root)
    return [_larger(stage, *factors[stage], figures(root, stage, metrics.get(stage, {}))) for stage in STAGES]


def measured_memory(root: Path) -> list[dict[str, Any]]:
    """The rows of the bench that tell of memory; none where it has not run."""
    try:
        rows = json.loads((root / BENCH).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [row for row in rows if row["unit"] == "MiB"]


def _larger(stage: str, factor: float, why: str, known: Figures) -> Larger:
    values = (None if value is None else value * factor for value in (known.calls, known.usd, known.seconds))
    return Larger(stage, factor, Figures(*values), why)
