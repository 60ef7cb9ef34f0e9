"""What a run goes on from: whole checkpoints only, and notes that end where the checkpoint does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.train.ppo.record import LOST, NOTES, SAMPLES
from stages.train.ppo.resume import Start, best_validated, newest_step, prune, rewind, seal, whole_steps
from stages.train.ppo.state import read_state, write_state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of eight steps, validated every four, with checkpoints of 2, 4 and 6 and notes up to 7."""
    for step in (2, 4, 6):
        actor = tmp_path / "checkpoints" / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        (actor / "model.pt").write_bytes(bytes(100))
        seal(actor.parent)
    lines = [note(step, "train") for step in range(1, 8)]
    lines[4:4] = [note(4, "validation")]
    (tmp_path / NOTES).write_text("".join([note(0, "validation"), *lines, '{"step": 8, "pha']))
    for name in (SAMPLES, "verl-000.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 8)))
    return tmp_path


def note(step: int, phase: str) -> str:
    numbers = ("n", "failed", "reward", "r_format", "r_outcome", "r_cost", "format", "em", "f1", "cost", "calls",
               "tokens", "seconds", "playing_s", "low", "high", "paid_calls", "paid")  # fmt: skip
    values: dict[str, Any] = dict.fromkeys(numbers, 0)
    return json.dumps({"step": step, "phase": phase, "shares": {}, **values, "reward": step / 10}) + "\n"


def weights(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"global_step_{step}" / "actor" / "model.pt"


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_it_goes_on_from_the_newest_and_forgets_what_came_after(folder: Path) -> None:
    assert rewind(folder, folder / "checkpoints", steps=8, validate_every=4) == Start(6, validate=False)
    assert steps_in(folder / NOTES) == [0, 1, 2, 3, 4, 4, 5, 6]
    assert steps_in(folder / LOST) == [7]
    assert steps_in(folder / SAMPLES) == steps_in(folder / "verl-000.jsonl") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "added", "unsealed"])
def test_a_damaged_checkpoint_is_never_taken_but_the_one_before(folder: Path, damage: str) -> None:
    path = weights(folder, 6)
    if damage == "flipped":
        path.write_bytes(bytes(50) + b"\x01" + bytes(49))
    elif damage == "cut":
        path.write_bytes(bytes(99))
    elif damage == "missing":
        path.unlink()
    elif damage == "added":
        (path.parent / "other.pt").write_bytes(b"")
    else:
        (path.parents[1] / "manifest.json").unlink()
    assert rewind(folder, folder / "checkpoints", steps=8, validate_every=4) == Start(4, validate=False)
    assert whole_steps(folder / "checkpoints") == [2, 4]
    assert not path.parents[1].exists()


def test_a_validation_that_the_kill_prevented_is_made_up_for(folder: Path) -> None:
    (folder / NOTES).write_text("".join(note(step, "train") for step in range(1, 5)))
    weights(folder, 6).unlink()
    assert rewind(folder, folder / "checkpoints", steps=8, validate_every=4) == Start(4, validate=True)


def test_the_last_step_is_validated_whatever_the_interval(folder: Path) -> None:
    assert rewind(folder, folder / "checkpoints", steps=6, validate_every=4) == Start(6, validate=True)


def test_without_a_whole_checkpoint_it_starts_anew(folder: Path) -> None:
    for step in (2, 4, 6):
        weights(folder, step).unlink()
    (folder / NOTES).write_text(note(1, "train"))
    assert newest_step(folder / "checkpoints") == 0
    assert rewind(folder, folder / "checkpoints", steps=8, validate_every=4) == Start(0, validate=True)
    assert steps_in(folder / NOTES) == []


def test_old_checkpoints_go_but_the_best_stays(folder: Path) -> None:
    prune(folder / "checkpoints", keep=1, best=2)
    assert whole_steps(folder / "checkpoints") == [2, 6]
    prune(folder / "checkpoints", keep=1, best=None)
    assert whole_steps(folder / "checkpoints") == [6]
    assert best_validated([], [2, 6]) is None


def test_the_drivers_random_states_and_the_managers_state_come_back(tmp_path: Path) -> None:
    manager = {"train": [1.5, 2.5], "validation": [0.1]}
    write_state(tmp_path, manager)
    drawn = random.random(), np.random.rand(), torch.rand(3).tolist()
    assert read_state(tmp_path) == manager
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == drawn
