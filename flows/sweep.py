"""One experiment for every combination of some parameters' values and seeds, each run up to the evaluation."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows import dvc, experiments
from flows.dvc_errors import TAIL_LINES
from flows.evaluations import pooled
from flows.settings import set_value
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.files import read_json, read_yaml
from stages.shared.params import parse_params
from stages.shared.progress import FOLDER, Snapshot
from stages.shared.workspace import REPLIES, RUNS, Workspace

METRICS = "metrics/evaluate.json"
SEED = "train.seed"
TICK_S = 1.0
LOOK_S = 5.0
"""Between two looks at DVC's queue for what failed, each of which takes two seconds."""


@dataclass(frozen=True)
class Point:
    """One experiment: its parameters as text, and the name that DVC knows it by."""

    settings: tuple[tuple[str, str], ...]
    name: str

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """The swept parameters without the seed: points that share these are repetitions."""
        return tuple((key, value) for key, value in self.settings if key != SEED)

    @property
    def setting(self) -> str:
        """What its repetitions have in common, in words; where nothing but the seed is swept, each is its own."""
        return label(self.values) or str(self)

    def __str__(self) -> str:
        """For example `cost_coefficient=0.3, seed=1`."""
        return label(self.settings)


@dataclass(frozen=True)
class Sweep:
    """All points of a grid, from one commit."""

    root: Path
    commit: str
    target: str
    """The stage that writes the evaluation."""
    points: tuple[Point, ...]

    @property
    def folder(self) -> Path:
        """Where the figure goes."""
        keys = "-".join(key for key, _ in self.points[0].settings)
        return Workspace(self.root).state / "sweeps" / _slug(keys)

    def done(self) -> dict[Point, dict[str, Any]]:
        """The evaluation of every point that has one."""
        found = experiments.finished(self.root, self.commit)
        texts = {p: experiments.read(self.root, found[p.name], METRICS) for p in self.points if p.name in found}
        return {point: json.loads(text) for point, text in texts.items() if text is not None}

    def pools(self, done: Collection[Point]) -> dict[str, dict[str, Any]]:
        """Settings of which several seeds are done -> these as one result (`pointsman seeds`), from their episodes."""
        revisions, found = experiments.finished(self.root, self.commit), {}
        for setting in dict.fromkeys(point.setting for point in done):
            alike = [point for point in done if point.setting == setting]
            if len(alike) > 1:
                with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
                    folders = {str(point): Path(scratch) / point.name for point in alike}
                    for point, folder in zip(alike, folders.values(), strict=True):
                        dvc.export_run(self.root, revisions[point.name], folder)
                    found[setting] = pooled(folders)
        return found


def plan_sweep(root: Path, axes: Sequence[str], seeds: Sequence[int], only_from: str | None) -> Sweep:
    """The grid that `KEY=VALUE,VALUE…` and seeds span.

    Raises ConfigurationError for what is no axis or no parameter, and for an `only_from` whose stages before it are out
    of date or would be changed.
    """
    grid = dict(_axis(axis) for axis in axes) | ({SEED: [str(seed) for seed in seeds]} if seeds else {})
    settings = [tuple(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    _check_values(root, settings)
    if only_from is not None:
        _check_before(root, only_from, list(grid))
    commit, target = experiments.baseline(root), _evaluation(root)
    base = f"{experiments.changes(root)}{target}"
    return Sweep(root, commit, target, tuple(Point(each, _name(each, base)) for each in settings))


def run_sweep(sweep: Sweep, show: Callable[[str], None], tell: Callable[[str], None]) -> dict[Point, str]:
    """Run the points that are not done, one at a time; returns what the failed ones said last.

    `show` gets how far it is, often; `tell` each point that ended, once. However this ends, nothing is left in DVC's
    queue or running, and the same call goes on with the points that are left: what a stage resumes from is kept in
    this repository. Raises ConflictError when DVC's queue is in use.
    """
    todo = [point for point in sweep.points if point not in sweep.done()]
    if not todo:
        return {}
    root, names = sweep.root, [point.name for point in todo]
    experiments.forget(root, names, experiments.refuse_others(root, names))
    try:
        for number, point in enumerate(todo, 1):
            show(f"queueing {number} of {len(todo)}: {point}")
            experiments.enqueue(root, point.name, dict(point.settings), sweep.target)
        return _work_off(sweep, todo, show, tell)
    finally:
        experiments.forget(root, names, experiments.queue(root))


def _work_off(
    sweep: Sweep, todo: Sequence[Point], show: Callable[[str], None], tell: Callable[[str], None]
) -> dict[Point, str]:
    left, failed, tail = list(todo), dict[Point, str](), list[str]()
    own = Workspace(sweep.root)
    kept = {RUNS: str(own.state.absolute() / "runs"), REPLIES: str(own.replies.absolute())}
    look_at = time.monotonic() + LOOK_S
    with dvc.work_off(sweep.root, kept) as worker:
        try:
            for line in dvc.lines_of(worker, TICK_S):
                tail = [*tail[-TAIL_LINES:], *([line] if line else [])]
                if time.monotonic() >= look_at or not _missing(sweep, left):
                    _settle(sweep, left, failed, tell)
                    look_at = time.monotonic() + LOOK_S
                if not left:
                    return failed
                show(f"{len(sweep.points) - len(left)} of {len(sweep.points)} ended; {_now(sweep.root)}")
        finally:
            if left:
                experiments.withdraw(sweep.root, [point.name for point in left])
    _settle(sweep, left, failed, tell)
    if left:
        raise PipelineError("DVC's queue worker ended before its work; its last lines:\n" + "\n".join(tail))
    return failed


def _settle(sweep: Sweep, left: list[Point], failed: dict[Point, str], tell: Callable[[str], None]) -> None:
    """Take the points that ended out of `left`."""
    missing = _missing(sweep, left)
    states = experiments.queue(sweep.root) if missing else {}
    for point in list(left):
        if point not in missing:
            tell(f"{point}: done")
        elif states.get(point.name) == "Failed":
            failed[point] = experiments.last_words(sweep.root, point.name)
            tell(f"{point}: failed")
        else:
            continue
        left.remove(point)


def _missing(sweep: Sweep, points: Sequence[Point]) -> list[Point]:
    """Those that have not ended well; git knows, in a moment, whereas DVC's queue takes seconds to say."""
    done = experiments.finished(sweep.root, sweep.commit)
    return [point for point in points if point.name not in done]


def _now(root: Path) -> str:
    """What the stage that runs in DVC's folder says of itself."""
    files = sorted((root / ".dvc" / "tmp" / "exps").glob(f"tmp*/{FOLDER}/*.json"), key=_age)
    if not files:
        return "starting"
    try:
        return f"{files[-1].stem} {Snapshot(**read_json(files[-1]))}"
    except (FileNotFoundError, ValueError, TypeError):
        return "between two stages"


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _axis(text: str) -> tuple[str, list[str]]:
    key, sign, values = text.partition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not (key and sign and listed) or len(set(listed)) < len(listed):
        raise ConfigurationError(f"{text!r} is no axis; write it as reward.cost_coefficient=0,0.3,0.6, each value once")
    return key.strip(), listed


def _check_values(root: Path, settings: Sequence[tuple[tuple[str, str], ...]]) -> None:
    raw = read_yaml(root / "params.yaml")
    for each in settings:
        changed = copy.deepcopy(raw)
        for key, value in each:
            set_value(changed, key, yaml.safe_load(value))
        parse_params(changed, "params.yaml with " + ", ".join(f"{key}={value}" for key, value in each))


def _check_before(root: Path, first: str, keys: Sequence[str]) -> None:
    """Refuse where a stage before `first` would run in an experiment."""
    plan = dvc.plan(root)
    names = [item.stage for item in plan]
    if first not in names:
        raise ConfigurationError(f"no stage is called {first!r}; there are: {', '.join(names)}")
    before = plan[: names.index(first)]
    stale = [item.stage for item in before if item.stale]
    if stale:
        listed = ", ".join(stale)
        raise ConfigurationError(f"--only-from {first}, but {listed} would run before it; `pointsman run` first")
    read = {section: stage for stage in names[: names.index(first)] for section in dvc.params_of(root, stage)}
    touched = [(key, stage) for key in keys for section, stage in read.items() if _meets(key, section)]
    if touched:
        key, stage = touched[0]
        raise ConfigurationError(f"--only-from {first}, but {key} is a parameter of {stage}; leave --only-from out")


def _meets(key: str, section: str) -> bool:
    return f"{key}.".startswith(f"{section}.") or f"{section}.".startswith(f"{key}.")


def _evaluation(root: Path) -> str:
    for stage in dvc.stage_names(root):
        if METRICS in dvc.metrics_of(root, stage):
            return stage
    raise ConfigurationError(f"no stage of dvc.yaml writes {METRICS}, which a sweep compares")


def _name(settings: tuple[tuple[str, str], ...], base: str) -> str:
    """The settings in a git reference's letters, and a digest of them and of the code that they are to be run with."""
    digest = hashlib.sha256(json.dumps([base, settings]).encode()).hexdigest()
    return f"{_slug(label(settings))}-{digest[:8]}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]


def label(settings: tuple[tuple[str, str], ...]) -> str:
    """For example `cost_coefficient=0.3, seed=1`."""
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings)
