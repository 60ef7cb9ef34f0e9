"""What a run of another size would take: the last run's figures, in proportion, and memory as the bench saw it grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.estimate import Figures, candidates_of, figures
from flows.report import read_metrics
from stages.shared.files import read_json
from stages.shared.params import load_params

STAGES = ("ingest", "profile", "train", "evaluate", "publish")
BENCH = Path("metrics") / "bench" / "scale.json"
SETS = 7


@dataclass(frozen=True)
class Growth:
    """Memory of a stage at several sizes, as tests/bench/scale.py measured it."""

    questions: tuple[int, ...]
    mib: tuple[float, ...]
    candidates: int | None
    """In the pool, where memory is taken for each of them."""
    later: float | None = None
    """MiB by which it grew over the second half of the largest size, where the bench saw it grow."""

    def at(self, questions: int, candidates: float) -> float:
        """MiB between the sizes, and beyond the largest as it grew at last: a chunk that fills up is not taken for
        growth. What comes on top of the least size grows with the candidates.
        """
        known = float(np.interp(questions, self.questions, self.mib))
        beyond = self._slope * max(0, questions - self.questions[-1])
        wider = candidates / self.candidates if self.candidates else 1.0
        return self.mib[0] + (known + beyond - self.mib[0]) * wider

    @property
    def _slope(self) -> float:
        """MiB a question: over the second half of the largest size, or from the size before it."""
        if self.later is not None:
            return max(0.0, self.later / (self.questions[-1] / 2))
        return max(0.0, float(np.diff(self.mib[-2:]).sum() / max(1, np.diff(self.questions[-2:]).sum())))


@dataclass(frozen=True)
class Larger:
    """A stage in a run of another size; None where the last run left no figure."""

    stage: str
    factor: float
    """Of calls and dollars."""
    found: Figures
    why: str
    memory: str
    """Where the figure of memory is from; "" where there is none."""


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
    metrics, growth = read_metrics(root), measured_growth(root)
    found = [_larger(stage, *factors[stage], figures(root, stage, metrics.get(stage, {}))) for stage in STAGES]
    return [_with_memory(each, growth.get(each.stage), (tests, known), (questions, candidates)) for each in found]


def beyond(found: Sequence[Larger], mib: float) -> list[str]:
    """The stages that take more memory than so much."""
    return [each.stage for each in found if (each.found.mib or 0.0) > mib]


def measured_growth(root: Path) -> dict[str, Growth]:
    """Stage -> how its memory grew in the bench; empty where it has not run."""
    try:
        rows = read_json(root / BENCH)
    except FileNotFoundError:
        return {}
    return {row["stage"]: _growth(row) for row in rows}


def _growth(row: Mapping[str, Any]) -> Growth:
    sizes = row["sizes"]
    return Growth(
        tuple(size["questions"] for size in sizes),
        tuple(size["mib"] for size in sizes),
        row.get("candidates"),
        sizes[-1].get("later"),
    )


def _larger(stage: str, factor: float, why: str, known: Figures) -> Larger:
    calls, usd, seconds = (None if each is None else each * factor for each in (known.calls, known.usd, known.seconds))
    memory = "" if known.mib is None else "as in the last run"
    return Larger(stage, factor, Figures(calls, usd, seconds, known.mib), why, memory)


def _with_memory(larger: Larger, growth: Growth | None, now: tuple[int, float], then: tuple[int, int]) -> Larger:
    """What the bench has for that size, and no less than the last run with what it has for the difference: a policy
    takes its place whatever the number of questions, and a script plays in the bench.
    """
    if growth is None:
        return larger
    questions, candidates = then
    wanted = growth.at(*then)
    mib = max(wanted, (larger.found.mib or 0.0) + wanted - growth.at(*now))
    seen = f"{growth.questions[0]:,} to {growth.questions[-1]:,} questions"
    measured = growth.questions[0] <= questions <= growth.questions[-1] and growth.candidates in (None, candidates)
    return replace(
        larger, found=replace(larger.found, mib=mib),
        memory=f"{'measured' if measured else 'extrapolated'} from {seen} in {BENCH}",
    )  # fmt: skip
