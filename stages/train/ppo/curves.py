"""What happened, step by step, as a table; and where it began and ended, as metrics."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.shared.files import atomic_path, read_rows
from stages.train.ppo.collapse import warnings
from stages.train.ppo.record import LOGS, StepRecord

LOGGED = {
    "actor/entropy_loss": "entropy",
    "actor/pg_loss": "policy_loss",
    "actor/pg_clipfrac": "clipped",
    "actor/grad_norm": "gradient",
    "actor/reward_kl_penalty": "kl",
    "actor/ppo_kl": "update_kl",
    "training/rollout_gap_max": "rollout_gap",
    "critic/vf_loss": "value_loss",
    "critic/vf_explained_var": "value_explained",
    "timing_s/gen": "seconds_generating",
    "timing_s/old_log_prob": "seconds_old_log_probs",
    "timing_s/ref": "seconds_reference",
    "timing_s/values": "seconds_values",
    "timing_s/update_critic": "seconds_updating_critic",
    "timing_s/update_actor": "seconds_updating",
    "timing_s/save_checkpoint": "seconds_saving",
    "timing_s/update_weights": "seconds_sending_weights",
    "timing_s/testing": "seconds_validating",
    "timing_s/step": "seconds_step",
}
"""verl's metrics that are kept, by the name of their column. `kl` is to the warm start, where train.ppo.kl asks for it;
`update_kl` is between the policy that played and the one that is updated; `rollout_gap` between the log-probabilities
that vLLM sampled by and the actor's, the largest of a step."""
MEASURED = (
    "n", "failed", "reward", "r_format", "r_outcome", "r_cost", "format", "em", "f1", "cost", "calls",
    "routing_entropy", "tokens", "tokens_per_s", "calls_per_s", "seconds", "playing_s", "low", "high",
    "paid_calls", "paid",
)  # fmt: skip


def write_curves(path: Path, records: Sequence[StepRecord], folder: Path) -> None:
    """Write curves.csv: a row a phase and step, a column a candidate's share of calls, verl's metrics of training."""
    names = sorted({name for record in records for name in record.shares})
    logged = read_logged(folder)
    header = ["step", "phase", *MEASURED, *(f"share_{name}" for name in names), *LOGGED.values()]
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, header, restval="")
        rows.writeheader()
        for record in sorted(records, key=lambda record: (record.step, record.phase)):
            verl = logged.get(record.step, {}) if record.phase == "train" else {}
            rows.writerow({"step": record.step, "phase": record.phase, **measures(record, names), **verl})


def measures(record: StepRecord, names: Sequence[str]) -> dict[str, float]:
    """The columns of one record, with the share of each of these candidates."""
    shares = {f"share_{name}": round(record.shares.get(name, 0.0), 4) for name in names}
    return {**{name: _rounded(getattr(record, name)) for name in MEASURED}, **shares}


def read_logged(folder: Path) -> dict[int, dict[str, float]]:
    """verl's metrics by step, from the files of every attempt; of a repeated step, the last attempt's."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob(LOGS)):
        for entry in read_rows(path):
            values = {column: _rounded(entry["data"][name]) for name, column in LOGGED.items() if name in entry["data"]}
            if values:
                found[int(entry["step"])] = values
    return found


def train_metrics(
    records: Sequence[StepRecord],
    selected: int,
    steps: int,
    seconds: Mapping[str, float],
    lost: Sequence[StepRecord] = (),
) -> dict[str, Any]:
    """metrics/train.json: validation (greedy) at the start and the selected step, training at both ends.

    `lost` are records of steps that a restart did again: they were paid, and count in nothing else.
    """
    validated = [record for record in records if record.phase == "validation"]
    trained = [record for record in records if record.phase == "train"]
    at_end = [record for record in validated if record.step == selected]
    metrics: dict[str, Any] = {
        "steps": steps,
        "selected_step": selected,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "spend": spend(records, lost),
        "warnings": warnings(records),
    }
    for name, found in (
        ("start", validated[:1]),
        ("end", at_end),
        ("train_start", trained[:1]),
        ("train_end", trained[-1:]),
    ):
        for record in found:
            metrics[name] = summary(record)
    return metrics


def spend(records: Sequence[StepRecord], lost: Sequence[StepRecord]) -> dict[str, float]:
    """What the candidates cost: every attempted call, of training and validation, in USD with prompt tokens."""
    found: dict[str, float] = {}
    for prefix, part in (("", records), ("lost_", lost)):
        found[f"{prefix}calls"] = sum(record.paid_calls for record in part)
        found[f"{prefix}usd"] = round(sum(record.paid for record in part) / 1e6, 6)
    return found


def summary(record: StepRecord) -> dict[str, Any]:
    """One record as metrics."""
    names = ("reward", "r_format", "r_outcome", "r_cost", "format", "em", "f1", "cost", "calls", "routing_entropy")
    numbers = {name: _rounded(getattr(record, name)) for name in names}
    return {**numbers, "n": record.n, "shares": {name: round(share, 4) for name, share in record.shares.items()}}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(float(value), 5)
