"""What one batch of episodes came to: a line of the run's notes, and later a row of curves.csv."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from stages.shared.episode.reward import Reward
from stages.shared.episode.types import Episode

Phase = Literal["train", "validation"]
NOTES = "steps.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """Means over the episodes of one batch that the infrastructure let end."""

    step: int
    phase: Phase
    n: int
    failed: int
    """Episodes that the infrastructure failed; they are in no mean."""
    reward: float
    format: float
    """Share of well-formed episodes."""
    em: float
    f1: float
    cost: float
    """Millionths of a dollar an episode, completion tokens."""
    calls: float
    tokens: float
    """Response tokens, candidates' replies included."""
    seconds: float
    """Since the batch before ended."""
    shares: dict[str, float] = field(default_factory=dict)
    """Candidate -> its share of all calls."""

    @staticmethod
    def of(
        step: int, phase: Phase, episodes: Sequence[Episode], rewards: Sequence[Reward], seconds: float
    ) -> StepRecord:
        """Summarise a batch."""
        counted = [(e, r) for e, r in zip(episodes, rewards, strict=True) if r.total is not None]
        called = Counter(call.name for episode, _ in counted for call in episode.calls)
        return StepRecord(
            step=step, phase=phase, n=len(counted), failed=len(episodes) - len(counted),
            reward=_mean(r.total or 0.0 for _, r in counted), format=_mean(float(e.well_formed) for e, _ in counted),
            em=_mean(r.em for _, r in counted), f1=_mean(r.f1 for _, r in counted),
            cost=_mean(r.cost for _, r in counted), calls=_mean(len(e.calls) for e, _ in counted),
            tokens=_mean(len(e.response_ids) for e, _ in counted), seconds=round(seconds, 3),
            shares={name: count / called.total() for name, count in sorted(called.items())},
        )  # fmt: skip

    def __str__(self) -> str:
        """For a progress line."""
        return (
            f"reward {self.reward:.3f}, EM {self.em:.3f}, format {self.format:.3f}, "
            f"cost {self.cost:.1f}, calls {self.calls:.2f}"
        )


def append_record(folder: Path, record: StepRecord) -> None:
    """Add a line to the notes of a run."""
    with (folder / NOTES).open("a", encoding="utf-8") as notes:
        notes.write(json.dumps(asdict(record), sort_keys=True) + "\n")


def read_records(folder: Path) -> list[StepRecord]:
    """The notes of a run, by phase and step; of a step that was repeated after a restart, the last.

    A line that a crash cut short is left out.
    """
    path = folder / NOTES
    found: dict[tuple[str, int], StepRecord] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = StepRecord(**json.loads(line))
        except ValueError:
            continue
        found[record.phase, record.step] = record
    return [found[key] for key in sorted(found)]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
