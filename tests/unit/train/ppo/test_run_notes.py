"""What a run leaves behind: records, curves, metrics, the best checkpoint, and no process."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from stages.shared.errors import IntegrityError, TransientError
from stages.shared.params import TinyPolicy
from stages.shared.policy import load_policy, load_tokenizer
from stages.train.ppo.board import board
from stages.train.ppo.checkpoint import best_step, export
from stages.train.ppo.collapse import collapsed
from stages.train.ppo.curves import train_metrics, write_curves
from stages.train.ppo.processes import end, running
from stages.train.ppo.record import NOTES, StepRecord, append_record, read_records
from stages.train.ppo.resume import seal
from stages.train.ppo.run import _failure
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer


def record(step: int, phase: Any, reward: float = 0.0, shares: dict[str, float] | None = None) -> StepRecord:
    return StepRecord(
        step=step, phase=phase, n=8, failed=1, reward=reward, r_format=-0.5, r_outcome=0.25, r_cost=0.5, format=0.5,
        em=0.25, f1=0.3, cost=12.5, calls=1.5, tokens=80.0, seconds=3.0, playing_s=2.0, low=1.0, high=5.0,
        paid_calls=14, paid=130.0, shares=shares or {"Arlix": 0.75, "Bomon": 0.25},
    )  # fmt: skip


def test_a_repeated_step_counts_once_and_a_torn_line_not_at_all(tmp_path: Path) -> None:
    for made in (record(1, "train", 0.1), record(2, "train", 0.2), record(1, "train", 0.3), record(0, "validation")):
        append_record(tmp_path, made)
    with (tmp_path / NOTES).open("a") as notes:
        notes.write('{"step": 3, "pha')
    assert [(r.phase, r.step, r.reward) for r in read_records(tmp_path)] == [
        ("train", 1, 0.3), ("train", 2, 0.2), ("validation", 0, 0.0)
    ]  # fmt: skip


def test_curves_hold_our_measures_and_verls(tmp_path: Path) -> None:
    logged = {"step": 1, "data": {"actor/grad_norm": 0.5, "actor/entropy_loss": 1.25, "timing_s/gen": 2.0}}
    (tmp_path / "verl-000.jsonl").write_text(json.dumps(logged) + "\n")
    write_curves(tmp_path / "curves.csv", [record(0, "validation"), record(1, "train", 0.5)], tmp_path)
    with (tmp_path / "curves.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["phase"], first["gradient"]) == ("validation", "")
    assert (second["reward"], second["gradient"], second["entropy"], second["share_Arlix"]) == (
        "0.5",
        "0.5",
        "1.25",
        "0.75",
    )


def test_metrics_tell_start_and_selected_end() -> None:
    records = [
        record(0, "validation", -0.5),
        record(10, "validation", 0.4),
        record(20, "validation", 0.3),
        record(1, "train"),
    ]
    metrics = train_metrics(records, selected=10, steps=20, seconds={"ppo": 12.34})
    assert (metrics["start"]["reward"], metrics["end"]["reward"]) == (-0.5, 0.4)
    assert metrics["selected_step"] == 10
    assert metrics["seconds"] == {"ppo": 12.3}
    assert metrics["end"]["shares"] == {"Arlix": 0.75, "Bomon": 0.25}


def test_every_candidates_call_is_accounted_for_those_of_lost_steps_apart() -> None:
    metrics = train_metrics([record(1, "train"), record(0, "validation")], 0, 1, {}, lost=[record(2, "train")])
    assert metrics["spend"] == {"calls": 28, "usd": 0.00026, "lost_calls": 14, "lost_usd": 0.00013}


def test_curves_tell_the_parts_of_the_reward_and_how_spread_routing_is(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.csv", [record(1, "train", shares={"Arlix": 0.5, "Bomon": 0.5})], tmp_path)
    with (tmp_path / "curves.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["r_format"], row["r_outcome"], row["r_cost"]) == ("-0.5", "0.25", "0.5")
    assert float(row["routing_entropy"]) == pytest.approx(math.log(2), abs=1e-4)
    assert (row["tokens_per_s"], row["calls_per_s"]) == ("320.0", "7.0")
    assert record(1, "train", shares={"Arlix": 1.0}).routing_entropy == 0.0


def test_routing_that_collapses_is_warned_of_and_one_odd_step_is_not() -> None:
    mixed, single = {"Arlix": 0.5, "Bomon": 0.5}, {"Arlix": 1.0}
    steps = [record(step, "train", shares=single if step > 1 else mixed) for step in range(1, 7)]
    assert collapsed(steps[:5]) is None
    assert collapsed(steps) == ("Arlix", 1.0)
    assert "100% of the calls of the last 5 steps went to Arlix" in train_metrics(steps, 6, 6, {})["warnings"][0]
    assert train_metrics(steps[:5], 5, 6, {})["warnings"] == []
    assert collapsed([record(step, "validation", shares=single) for step in range(9)]) is None


def test_tensorboard_shows_each_step_once_and_forgets_those_that_were_lost(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with board(tmp_path, 0) as curves:
        for seen in (1, 2, 3):
            curves.show([record(step, "train", 0.1 * step) for step in range(1, seen + 1)], {1: {"kl": 0.5}})
    time.sleep(1.1)  # the name of an event file holds the second it was made
    with board(tmp_path, 2) as curves:
        curves.show([record(step, "train", 0.9) for step in range(1, 4)], {})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, round(e.value, 2)) for e in events.Scalars("train/reward")] == [(1, 0.1), (2, 0.2), (3, 0.9)]
    assert [e.value for e in events.Scalars("verl/kl")] == [0.5]


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A policy folder, and checkpoints of steps 2 and 4 as verl leaves them."""
    policy, checkpoints = tmp_path / "policy", tmp_path / "checkpoints"
    words = build_tokenizer()
    model = build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    model.save_pretrained(policy)
    words.save_pretrained(policy)
    for step in (2, 4):
        actor = checkpoints / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        weights = {name: value + step / 1000 for name, value in model.state_dict().items()}
        torch.save(weights, actor / "model_world_size_1_rank_0.pt")
        seal(actor.parent)
    return policy, checkpoints


def test_the_best_validated_checkpoint_is_taken(trained: tuple[Path, Path]) -> None:
    _, checkpoints = trained
    assert best_step([record(2, "validation", 0.5), record(4, "validation", 0.4)], checkpoints) == 2
    assert best_step([record(2, "validation", 0.5), record(4, "validation", 0.5)], checkpoints) == 4
    assert best_step([record(6, "validation", 0.9)], checkpoints) == 4
    with pytest.raises(IntegrityError, match="no checkpoint"):
        best_step([], checkpoints / "nowhere")


def test_the_warm_start_is_taken_where_ppo_only_harmed(trained: tuple[Path, Path]) -> None:
    _, checkpoints = trained
    before = record(0, "validation", 0.5)
    assert best_step([before, record(2, "validation", 0.4), record(4, "validation", 0.4)], checkpoints) == 0
    assert best_step([before, record(2, "validation", 0.4), record(4, "validation", 0.5)], checkpoints) == 4
    assert best_step([before], checkpoints) == 4


def test_the_export_is_exact_and_complete(trained: tuple[Path, Path], tmp_path: Path) -> None:
    policy, checkpoints = trained
    export(checkpoints, 4, policy, tmp_path / "out")
    before, after = load_policy(policy).state_dict(), load_policy(tmp_path / "out").state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value + 4 / 1000)
    assert load_tokenizer(tmp_path / "out").encode("what is it ?") == load_tokenizer(policy).encode("what is it ?")


def test_a_checkpoint_that_lacks_a_rank_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    policy, checkpoints = trained
    actor = checkpoints / "global_step_4" / "actor"
    (actor / "model_world_size_1_rank_0.pt").rename(actor / "model_world_size_2_rank_0.pt")
    with pytest.raises(IntegrityError, match="not a whole checkpoint"):
        export(checkpoints, 4, policy, tmp_path / "out")


def test_nothing_that_a_child_started_outlives_it(tmp_path: Path) -> None:
    """Not a grandchild in a session of its own either, as Ray's are."""
    code = (
        "import subprocess, sys, time; "
        "a = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
        "b = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(a.pid, b.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    with running([sys.executable, "-c", code], {}, log) as child:
        deadline = time.monotonic() + 20
        while not log.read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = [child.pid, *map(int, log.read_text().split())]
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_ending_a_child_that_has_ended_is_quiet(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], start_new_session=True)
    child.wait()
    end(child)


def test_a_failure_is_told_in_the_words_of_the_process_that_failed(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("an older run\n")
    begins = log.stat().st_size
    with log.open("a") as file:
        file.write("ray.exceptions.RayTaskError(TransientError): ray::TaskRunner.run() (pid=1)\n")
        file.write("stages.shared.errors.TransientError: step 3: every episode met a failing candidate\n")
        file.write("Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n")
    told = _failure(log, begins, 1)
    assert isinstance(told, TransientError)
    assert "step 3: every episode met a failing candidate" in str(told)
    assert str(log) in str(told)


def test_a_failure_of_verl_shows_what_was_raised_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("\n".join(["RuntimeError: out of luck", *(f"noise {i}" for i in range(40))]))
    told = str(_failure(log, 0, 1))
    assert "out of luck" in told
    assert "noise 39" in told
    assert "noise 3\n" not in told
