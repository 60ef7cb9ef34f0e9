"""What a run would take, from what the last one took: calls, dollars and seconds of each stage, before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.report import read_metrics
from stages.shared.files import read_json, read_lines, read_yaml, write_json
from stages.shared.params import IngestParams, Params, ProfileParams, TrainParams, load_params
from stages.shared.progress import read_progress
from stages.shared.workspace import Workspace

PICOS = 10**12
"""In a dollar, as the ledger counts."""
SIMULATED = ("sandbox", "local")
"""The kinds of pools whose prices nobody is billed."""


@dataclass(frozen=True)
class Figures:
    """What a stage takes; None where nothing is known."""

    calls: float | None
    """To candidates; what is recorded already costs nothing."""
    usd: float | None
    seconds: float | None
    mib: float | None = None
    """Of memory, all its processes together."""


@dataclass(frozen=True)
class Expected:
    """What a stage would take."""

    calls: int | None
    usd: float | None
    seconds: float | None
    growth: float
    """How much more there is to do than in the run that this is known from, for what parameters say of its size."""
    mib: float | None = None
    """Of memory, as the last run took it."""


def note(root: Path, stage: str, **figures: float) -> None:
    """Keep what a stage took that ran: `seconds`, `mib`."""
    write_json(_kept(root, stage), _took(root, stage) | {name: round(value, 1) for name, value in figures.items()})


def expect(root: Path, stage: str) -> Expected:
    """What a stage would take, now. Raises ConfigurationError for parameters that do not parse."""
    params = load_params(root / "params.yaml")
    metrics = read_metrics(root).get(stage, {})
    known, before, parts = figures(root, stage, metrics), _locked(root, stage), _parts(metrics)
    growth = _ratio(SIZES.get(stage, _one), params.model_dump(), before)
    seconds = _seconds_growth(parts, params, before) if parts else growth
    return Expected(
        None if known.calls is None else round(known.calls * growth),
        None if known.usd is None else known.usd * growth,
        None if known.seconds is None else known.seconds * seconds,
        growth,
        known.mib,
    )


def figures(root: Path, stage: str, metrics: Mapping[str, Any]) -> Figures:
    """What the last run of a stage took: by its ledger, its metrics, and the clock."""
    calls, usd = _paid(root, stage) or _measured(stage, metrics)
    return Figures(calls, usd, _seconds(root, stage, metrics), _took(root, stage).get("mib"))


def total(expected: Mapping[str, Expected]) -> Figures:
    """The sums of what is known; of memory the most, since stages run one after the other."""
    values = list(expected.values())
    return Figures(
        sum(each.calls or 0 for each in values),
        sum(each.usd or 0.0 for each in values),
        sum(each.seconds or 0.0 for each in values),
        max((each.mib or 0.0 for each in values), default=0.0) or None,
    )


def describe(found: Expected | Figures) -> str:
    """For example `3,939 calls, $0.0551, 10.5 min, 957 MiB`; "" where nothing is known."""
    calls = [f"{found.calls:,.0f} calls"] if found.calls else []
    usd = [f"${found.usd:,.4f}" if found.usd < 1 else f"${found.usd:,.2f}"] if found.usd else []
    seconds = [] if found.seconds is None else [_duration(found.seconds)]
    return ", ".join([*calls, *usd, *seconds, *([] if found.mib is None else [memory(found.mib)])])


def memory(mib: float) -> str:
    """As one reads it."""
    return f"{mib:,.0f} MiB" if mib < 10 * 1024 else f"{mib / 1024:,.0f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _paid(root: Path, stage: str) -> tuple[float, float] | None:
    """Calls and dollars of the newest journal in the ledger of a run that paid anything."""
    runs = Workspace(root).runs(stage).parent
    journals = [*runs.glob(f"ledger/{stage}-*.jsonl"), *runs.glob(f"*/ledger/{stage}-*.jsonl")]
    for path in sorted(journals, key=lambda path: path.stat().st_mtime, reverse=True):
        costs = [json.loads(line)["cost"] or 0 for line in read_lines(path) if line.startswith(b'{"end"')]
        if costs:
            return len(costs), sum(costs) / PICOS
    return None


def _measured(stage: str, metrics: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Calls and dollars by the metrics; of the evaluation at most, since its methods share replies."""
    if stage == "profile" and "calls" in metrics:
        each = metrics["candidates"].values()
        return metrics["calls"], sum((one["cost_total"] or 0.0) * one["calls"] for one in each) / 1e6
    if stage == "train" and "spend" in metrics:
        return metrics["spend"]["calls"], metrics["spend"]["usd"]
    if stage == "evaluate" and "methods" in metrics:
        averages = [sets["average"] for sets in metrics["methods"].values()]
        calls = sum((one["calls"] or 0.0) * one["n"] for one in averages)
        return calls, sum((one.get("cost_total") or 0.0) * one["n"] for one in averages) / 1e6
    return (0, 0.0) if stage in ("ingest", "publish") else (None, None)


def _seconds(root: Path, stage: str, metrics: Mapping[str, Any]) -> float | None:
    if "seconds" in (took := _took(root, stage)):
        return took["seconds"]
    if parts := _parts(metrics):
        return sum(parts.values())
    snapshot = read_progress(stage, root)
    return snapshot.seconds if snapshot else None


def _parts(metrics: Mapping[str, Any]) -> dict[str, float]:
    return dict(metrics.get("seconds") or {}) if isinstance(metrics.get("seconds"), dict) else {}


def _took(root: Path, stage: str) -> dict[str, float]:
    """What was noted of a stage; empty before it ran here."""
    kept = _kept(root, stage)
    return dict(read_json(kept)) if kept.is_file() else {}


def _kept(root: Path, stage: str) -> Path:
    return Workspace(root).state / "took" / f"{stage}.json"


def _locked(root: Path, stage: str) -> dict[str, Any]:
    """The parameters that the outputs of a stage were made with, by section; empty before its first run."""
    try:
        lock = read_yaml(root / "dvc.lock") or {}
    except FileNotFoundError:
        return {}
    found: dict[str, Any] = lock.get("stages", {}).get(stage, {}).get("params", {}).get("params.yaml", {})
    return found


def _seconds_growth(parts: Mapping[str, float], params: Params, before: Mapping[str, Any]) -> float:
    now = params.model_dump()
    wanted = sum(seconds * _ratio(PARTS.get(part, _one), now, before) for part, seconds in parts.items())
    return wanted / (sum(parts.values()) or 1.0)


def _ratio(size: Callable[[Mapping[str, Any]], float], now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """How much larger a run is; 1 where an older version's parameters no longer say."""
    try:
        return size(now) / (size(before) or 1.0)
    except (KeyError, TypeError, ValidationError):
        return 1.0


def _one(raw: Mapping[str, Any]) -> float:
    return 1.0


def _questions(raw: Mapping[str, Any]) -> float:
    found = IngestParams.model_validate(raw["ingest"])
    kept = found.sizes.train + found.sizes.profiling + found.sizes.validation
    return kept * len(found.train_on) + 7 * found.sizes.test


def candidates_of(raw: Mapping[str, Any]) -> float:
    """How many candidates parameters name."""
    pool = raw["pool"]
    return len(pool.get("experts") or pool.get("models") or pool.get("candidates") or ())


def _profiled(raw: Mapping[str, Any]) -> float:
    return ProfileParams.model_validate(raw["profile"]).questions * candidates_of(raw)


def _tested(raw: Mapping[str, Any]) -> float:
    return IngestParams.model_validate(raw["ingest"]).sizes.test * candidates_of(raw)


def _episodes(raw: Mapping[str, Any]) -> float:
    ppo = TrainParams.model_validate(raw["train"]).ppo
    return ppo.steps * ppo.questions * ppo.episodes


def _demonstrations(raw: Mapping[str, Any]) -> float:
    found = TrainParams.model_validate(raw["train"]).warm_start
    return found.steps * found.batch


def _texts(raw: Mapping[str, Any]) -> float:
    policy = TrainParams.model_validate(raw["train"]).policy
    return policy.pretrain_steps * policy.pretrain_batch if policy.kind == "tiny" else 1.0


SIZES = {"ingest": _questions, "profile": _profiled, "train": _episodes, "evaluate": _tested}
PARTS = {"base": _texts, "warm_start": _demonstrations, "ppo": _episodes}
