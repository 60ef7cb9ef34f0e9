"""Which checkpoints can be trusted, and the run's notes taken back to the one that training goes on from.

verl writes a checkpoint file by file; a kill can leave any part of it. It counts from the moment its manifest is there,
and only as long as every file is what the manifest says.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.shared.artifacts import MANIFEST, verify_manifest, write_manifest
from stages.shared.errors import IntegrityError
from stages.shared.files import atomic_path, read_lines
from stages.shared.progress import say
from stages.train.ppo.record import LOGS, LOST, NOTES, SAMPLES, StepRecord, read_records

SCHEMA = "pointsman/checkpoint/1"
STEP = "global_step_"


@dataclass(frozen=True)
class Start:
    """Where an attempt begins."""

    step: int = 0
    """Of the checkpoint to load; 0 starts from the warm start."""
    validate: bool = True
    """Whether the policy as loaded is still to be validated."""


FRESH = Start()


def seal(folder: Path) -> None:
    """Declare a checkpoint whole: everything of it on the disk, then its manifest."""
    for path in folder.rglob("*"):
        _sync(path)
    write_manifest(folder, SCHEMA)
    _sync(folder)


def whole_steps(checkpoints: Path) -> list[int]:
    """Steps whose checkpoint is what its manifest says, ascending; reads every byte of them."""
    return [step for step in sealed_steps(checkpoints) if is_whole(checkpoints / f"{STEP}{step}")]


def newest_step(checkpoints: Path) -> int:
    """The newest step whose checkpoint verifies, 0 where there is none; says which were passed over."""
    return next((step for step in reversed(sealed_steps(checkpoints)) if is_whole(checkpoints / f"{STEP}{step}")), 0)


def sealed_steps(checkpoints: Path) -> list[int]:
    """Steps whose checkpoint was once whole, ascending."""
    return sorted(int(path.parent.name.removeprefix(STEP)) for path in checkpoints.glob(f"{STEP}*/{MANIFEST}"))


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint verifies; says why not."""
    try:
        verify_manifest(folder, SCHEMA)
    except IntegrityError as error:
        _, *faults = str(error).splitlines()
        say(f"train: checkpoint {folder.name} is passed over: {faults[0].strip() if faults else error}")
        return False
    return True


def prune(checkpoints: Path, keep: int, best: int | None) -> None:
    """Remove all but the `keep` newest whole checkpoints and the best one; of others the manifest goes first."""
    steps = sealed_steps(checkpoints)
    for step in steps[:-keep]:
        if step != best:
            _remove(checkpoints / f"{STEP}{step}")


def best_validated(records: Iterable[StepRecord], steps: Sequence[int]) -> int | None:
    """Of `steps` the one with the best greedy reward on validation, the later of equals."""
    validated = {record.step: record.reward for record in records if record.phase == "validation"}
    return max((step for step in steps if step in validated), key=lambda step: (validated[step], step), default=None)


def rewind(folder: Path, checkpoints: Path, steps: int, validate_every: int) -> Start:
    """Take a run's folder back to its newest whole checkpoint: what is newer, or torn, goes."""
    step = newest_step(checkpoints)
    for path in checkpoints.glob(f"{STEP}*"):
        number = int(path.name.removeprefix(STEP))
        if number > step or not (path / MANIFEST).exists():
            _remove(path)
    records = read_records(folder)
    kept = [record for record in records if record.step <= step]
    _keep_lines(folder / NOTES, step, folder / LOST)
    for path in (folder / SAMPLES, *folder.glob(LOGS)):
        _keep_lines(path, step)
    due = step % validate_every == 0 or step == steps
    return Start(step, due and not any(record.phase == "validation" and record.step == step for record in kept))


def _keep_lines(path: Path, step: int, lost: Path | None = None) -> None:
    """Drop the JSON lines of later steps and what a crash cut short; those of later steps are added to `lost`."""
    if not path.exists():
        return
    kept: list[bytes] = []
    dropped: list[bytes] = []
    for line in read_lines(path):
        try:
            (kept if json.loads(line)["step"] <= step else dropped).append(line)
        except (ValueError, KeyError):
            continue
    if lost is not None and dropped:
        with lost.open("ab") as file:
            file.writelines(dropped)
    with atomic_path(path) as part:
        part.write_bytes(b"".join(kept))


def _remove(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
