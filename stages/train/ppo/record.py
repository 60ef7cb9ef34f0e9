"""What one batch of episodes came to: a line of the run's notes, and later a row of curves.csv."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from stages.shared.episode.normaliser import CostNormaliser
from stages.shared.episode.reward import Reward
from stages.shared.episode.types import Episode
from stages.shared.files import read_rows

Phase = Literal["train", "validation"]
NOTES = "steps.jsonl"
LOGS = "verl-*.jsonl"
"""What verl logged, a file an attempt."""
LOST = "lost.jsonl"
"""Records of steps that a restart did again: what they cost was paid all the same."""
SAMPLES = "episodes.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """Means over the episodes of one batch that the infrastructure let end."""

    step: int
    phase: Phase
    n: int
    failed: int
    """Episodes that the infrastructure failed; they are in no mean."""
    reward: float
    """r_format + (1 - a) * r_outcome + a * r_cost, with a = reward.cost_coefficient."""
    r_format: float
    r_outcome: float
    r_cost: float
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
    playing_s: float
    """Seconds that the episodes took."""
    low: float
    """The root of the cost that the normaliser gives 1."""
    high: float
    """The root of the cost that the normaliser gives 0."""
    paid_calls: int
    """Every attempted call, those of failed episodes included."""
    paid: float
    """Millionths of a dollar for them, prompt tokens included."""
    shares: dict[str, float] = field(default_factory=dict)
    """Candidate -> its share of all calls."""

    @property
    def routing_entropy(self) -> float:
        """Of the shares, in nats: 0 when one candidate gets every call."""
        return -sum(share * math.log(share) for share in self.shares.values() if share > 0) + 0.0

    @property
    def tokens_per_s(self) -> float:
        """Response tokens of the counted episodes, a second of playing."""
        return self.tokens * self.n / self.playing_s if self.playing_s else 0.0

    @property
    def calls_per_s(self) -> float:
        """Attempted calls, a second of playing."""
        return self.paid_calls / self.playing_s if self.playing_s else 0.0

    @staticmethod
    def of(
        step: int,
        phase: Phase,
        episodes: Sequence[Episode],
        rewards: Sequence[Reward],
        normaliser: CostNormaliser,
        seconds: tuple[float, float],
    ) -> StepRecord:
        """Summarise a batch; `seconds` since the batch before, and of playing."""
        counted = [(e, r) for e, r in zip(episodes, rewards, strict=True) if r.total is not None]
        calls = [call for episode in episodes for call in episode.calls]
        low, high = normaliser.bounds()
        called = Counter(call.name for episode, _ in counted for call in episode.calls)
        return StepRecord(
            step=step, phase=phase, n=len(counted), failed=len(episodes) - len(counted),
            reward=_mean(r.total or 0.0 for _, r in counted), r_format=_mean(r.format for _, r in counted),
            r_outcome=_mean(r.outcome for _, r in counted), r_cost=_mean(r.cost_term for _, r in counted),
            format=_mean(float(e.well_formed) for e, _ in counted), em=_mean(r.em for _, r in counted),
            f1=_mean(r.f1 for _, r in counted), cost=_mean(r.cost for _, r in counted),
            calls=_mean(len(e.calls) for e, _ in counted), tokens=_mean(len(e.response_ids) for e, _ in counted),
            seconds=round(seconds[0], 3), playing_s=round(seconds[1], 3), low=low, high=high,
            paid_calls=len(calls), paid=sum(call.cost_total for call in calls),
            shares={name: count / called.total() for name, count in sorted(called.items())},
        )  # fmt: skip

    def __str__(self) -> str:
        """For a progress line."""
        return (
            f"reward {self.reward:.3f}, EM {self.em:.3f}, format {self.format:.3f}, "
            f"cost {self.cost:.1f}, calls {self.calls:.2f}" + (f", {self._favourite()}" if self.shares else "")
        )

    def _favourite(self) -> str:
        name = max(self.shares, key=lambda name: (self.shares[name], name))
        return f"{self.shares[name]:.0%} to {name}"


def append_record(folder: Path, record: StepRecord) -> None:
    """Add a line to the notes of a run."""
    with (folder / NOTES).open("a", encoding="utf-8") as notes:
        notes.write(json.dumps(asdict(record), sort_keys=True) + "\n")


def read_records(folder: Path) -> list[StepRecord]:
    """The notes of a run, by phase and step; of a step that was repeated after a restart, the last."""
    found = {(record.phase, record.step): record for record in read_lines(folder / NOTES)}
    return [found[key] for key in sorted(found)]


def read_lines(path: Path) -> list[StepRecord]:
    """The records in a file, in its order; a line that a crash cut short is left out. None where there is no file."""
    found = []
    for row in read_rows(path):
        try:
            found.append(StepRecord(**row))
        except TypeError:
            continue
    return found


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
