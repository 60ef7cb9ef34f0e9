"""A training run as a terminal shows it: curves, routing, time, and an episode to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stages.shared.files import read_json
from stages.train.ppo.collapse import warnings
from stages.train.ppo.curves import read_logged
from stages.train.ppo.episodes import Sample, as_text, read_episodes
from stages.train.ppo.record import StepRecord, read_records

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Steps that a curve shows, the last ones."""
SHARE_WIDTH = 30
MEASURES = {
    "reward": "reward", "  outcome": "r_outcome", "  format": "r_format", "  cost": "r_cost", "exact match": "em",
    "well-formed": "format", "cost, 1e-6 USD": "cost", "calls": "calls", "routing entropy": "routing_entropy",
    "response tokens": "tokens", "tokens a second": "tokens_per_s", "calls a second": "calls_per_s",
}  # fmt: skip
LOGGED = {
    "KL to the start": "kl", "KL of the update": "update_kl", "clipped": "clipped", "entropy": "entropy",
    "gradient": "gradient", "value explained": "value_explained",
}  # fmt: skip
PHASES = {
    "playing": "seconds_generating", "values": "seconds_values", "critic": "seconds_updating_critic",
    "policy": "seconds_updating", "weights": "seconds_sending_weights", "saving": "seconds_saving",
    "validating": "seconds_validating",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What the folder of a run holds now."""

    name: str
    steps: int
    """To be trained in all."""
    records: Sequence[StepRecord]
    logged: Mapping[int, Mapping[str, float]]
    samples: Sequence[Sample]

    @staticmethod
    def read(folder: Path) -> Run:
        """As far as it has come; what is half written is left out. `folder` has a reads.json."""
        reads = read_json(folder / "reads.json")
        steps = int(reads["train.ppo.steps"])
        return Run(folder.name, steps, read_records(folder), read_logged(folder), read_episodes(folder))

    @property
    def trained(self) -> list[StepRecord]:
        """The training steps."""
        return [record for record in self.records if record.phase == "train"]

    @property
    def validated(self) -> list[StepRecord]:
        """The validations."""
        return [record for record in self.records if record.phase == "validation"]


def picture(run: Run, *, episode: bool = True) -> RenderableType:
    """All of it; with the newest episode that was kept where `episode`."""
    parts: list[RenderableType] = [_headline(run), _curves(run)]
    if run.trained:
        parts += [_shares(run.trained[-1]), _time(run)]
    parts += [Text(warning, style="yellow") for warning in warnings(run.records)]
    if episode and run.samples:
        parts.append(Panel(Text(as_text(run.samples[-1]).strip()), title="an episode", title_align="left"))
    return Group(*parts)


def curve(values: Sequence[float]) -> str:
    """The last WIDTH values as bars between the least and the greatest of them."""
    shown = list(values)[-WIDTH:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in shown)


def _headline(run: Run) -> Text:
    done = len(run.trained)
    left = sum(record.seconds for record in run.trained) / done * (run.steps - done) if done else 0.0
    remaining = f", about {left:.0f} s left" if left >= 1 else ""
    return Text(f"{run.name}: step {done} of {run.steps}{remaining}", style="bold")


def _curves(run: Run) -> Table:
    table = Table(box=None, pad_edge=False)
    for title, side in (("", "left"), ("now", "right"), ("training, step by step", "left"), ("validation", "left")):
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    for title, name in MEASURES.items():
        values = [float(getattr(record, name)) for record in run.trained]
        held = [getattr(record, name) for record in run.validated]
        told = f"{_short(held[0])} → {_short(held[-1])}" if len(held) > 1 else _short(held[0]) if held else ""
        table.add_row(title, _short(values[-1]) if values else "", curve(values), told)
    for title, name in LOGGED.items():
        values = [step[name] for _, step in sorted(run.logged.items()) if name in step]
        if any(values):
            table.add_row(title, _short(values[-1]), curve(values), "")
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _shares(record: StepRecord) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, title="calls of the last step", title_justify="left")
    for name, share in sorted(record.shares.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{share:4.0%}", "█" * round(share * SHARE_WIDTH))
    return table


def _time(run: Run) -> Text:
    last = run.logged.get(max(run.logged, default=0), {})
    phases = ", ".join(f"{title} {last[name]:.1f}" for title, name in PHASES.items() if last.get(name))
    return Text(f"seconds of the last step: {phases}", style="dim") if phases else Text("")
