"""A few steps of the real trainer: verl and Ray, actor, critic, reference, rollout and driver, candidates over HTTP."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.shared.artifacts import verify_manifest
from stages.shared.params import Params, TinyPolicy, parse_params
from stages.shared.policy import load_policy
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import Question
from stages.shared.workspace import Workspace
from stages.train.__main__ import write_artifacts, write_metrics
from stages.train.ppo.checkpoint import export, merged
from stages.train.ppo.curves import write_curves
from stages.train.ppo.record import read_records
from stages.train.ppo.resume import newest_step, sealed_steps, whole_steps
from stages.train.ppo.stage import Inputs, ppo
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer

pytestmark = pytest.mark.slow


def small(profile: Any, **settings: Any) -> Params:
    params: Params = profile(
        "smoke",
        advantage="gae",
        steps=4,
        questions=4,
        episodes=2,
        mini_batch=4,
        micro_batch=4,
        save_every=1,
        validate_every=2,
        kl=0.01,
        **settings,
    )
    episode = {
        "prompt": "compact",
        "prompt_tokens": 256,
        "response_tokens": 96,
        "turn_tokens": 16,
        "max_calls": 2,
        "reply_tokens": 16,
    }
    return parse_params({**params.model_dump(), "episode": episode}, "test")


@dataclass(frozen=True)
class Run:
    """Everything that a training run is given, in a place of its own."""

    place: Path
    params: Params
    inputs: Inputs

    @property
    def folder(self) -> Path:
        return self.place / "run"

    @property
    def home(self) -> Path:
        return self.place / "home"

    def arguments(self) -> tuple[Any, ...]:
        return self.params, self.place.parent / "policy", self.inputs, self.folder, self.place / ".pointsman"


def prepared(place: Path, params: Params, questions: list[Question]) -> Run:
    for name in ("run", "home"):
        (place / name).mkdir(parents=True)
    seen = tuple(Descriptor(expert.name, expert.price, 0.5) for expert in params.pool.experts if expert.seen)
    return Run(place, params, Inputs(questions, questions[:3], seen))


@contextlib.contextmanager
def at_home(run: Run) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(run.home))
        patch.chdir(run.place)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random policy in it."""
    place, words = tmp_path_factory.mktemp("training"), build_tokenizer()
    model = build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    model.save_pretrained(place / "policy")
    words.save_pretrained(place / "policy")
    return place


@pytest.fixture(scope="module")
def whole(place: Path, profile: Any, questions: list[Question]) -> Run:
    """A run that nobody interrupted."""
    run = prepared(place / "whole", small(profile), questions)
    with at_home(run):
        assert ppo(*run.arguments()) in (2, 4)
    return run


def test_it_leaves_records_curves_a_policy_and_no_process(whole: Run, tmp_path: Path) -> None:
    records = read_records(whole.folder)
    assert [(r.phase, r.step, r.n) for r in records] == [
        *(("train", step, 8) for step in (1, 2, 3, 4)), ("validation", 0, 3), ("validation", 2, 3), ("validation", 4, 3)
    ]  # fmt: skip
    write_curves(tmp_path / "curves.csv", records, whole.folder)
    with (tmp_path / "curves.csv").open() as file:
        trained = [row for row in csv.DictReader(file) if row["phase"] == "train"]
    assert all(float(row["gradient"]) > 0 and row["value_loss"] and row["kl"] for row in trained)
    assert float(trained[0]["kl"]) == pytest.approx(0.0, abs=1e-4)
    policy = whole.place.parent / "policy"
    export(whole.folder / "checkpoints", 4, policy, tmp_path / "out")
    moved = load_policy(tmp_path / "out").state_dict()
    assert any(not value.equal(moved[name]) for name, value in load_policy(policy).state_dict().items())
    assert ours(whole.home) == []


def test_the_stage_hands_on_a_policy_curves_and_readable_episodes(whole: Run, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_artifacts(workspace, whole.folder, 4, whole.place.parent / "policy")
    write_metrics(workspace, whole.folder, 4, 4, {"ppo": 1.0})
    verify_manifest(workspace.artifacts("train"))
    found = {path.relative_to(workspace.artifacts("train")).as_posix() for path in tmp_path.rglob("*")
             if path.is_relative_to(workspace.artifacts("train"))}  # fmt: skip
    assert {"policy/model.safetensors", "curves.csv", "curves/train.csv", "curves/validation.csv", "episodes.jsonl",
            "episodes.txt", "episodes.html"} <= found  # fmt: skip
    metrics = json.loads(workspace.metrics("train").read_text())
    assert set(metrics) == {"steps", "selected_step", "seconds", "spend", "warnings", "start", "end", "train_start",
                            "train_end"}  # fmt: skip


def test_only_the_newest_checkpoints_and_the_best_are_kept(whole: Run) -> None:
    kept = whole_steps(whole.folder / "checkpoints")
    assert kept[-2:] == [3, 4]
    assert len(kept) <= 3


def test_a_killed_run_whose_newest_checkpoint_is_damaged_ends_as_if_nothing_had_happened(
    whole: Run, place: Path
) -> None:
    """SIGKILL to the stage and to verl's driver in the third step, and a byte of the newest checkpoint flipped."""
    run = prepared(place / "killed", whole.params, list(whole.inputs.training))
    with at_home(run):
        ray = kill_in_step(run, 3)
        checkpoints = run.folder / "checkpoints"
        newest = sealed_steps(checkpoints)[-1]
        flip(next((checkpoints / f"global_step_{newest}" / "actor").glob("model_*.pt")))
        begins = newest_step(checkpoints)
        assert 0 < begins < newest
        assert ppo(*run.arguments()) == ppo(*whole.arguments())
    assert logged_from(run.folder, attempt=1) == begins + 1
    assert not ray.exists()
    assert ours(run.home) == []
    assert measured(run.folder) == measured(whole.folder)
    assert logged(run.folder) == logged(whole.folder)
    assert weights(run.folder, 4) == weights(whole.folder, 4)


def kill_in_step(run: Run, step: int) -> Path:
    """Start the run in a process of its own and kill it once that step was played; the folder of its Ray."""
    process = multiprocessing.get_context("spawn").Process(target=ppo, args=run.arguments())
    process.start()
    deadline = time.monotonic() + 300
    while not any(record.phase == "train" and record.step == step for record in read_records(run.folder)):
        assert process.is_alive(), "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    attempt = json.loads((run.folder / "attempt.json").read_text())
    for pid in (process.pid, attempt["session"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.join()
    return Path(attempt["ray"])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def measured(folder: Path) -> list[dict[str, Any]]:
    """The run's own records, without what a clock says."""
    clocks = ("seconds", "playing_s")
    return [{k: v for k, v in asdict(record).items() if k not in clocks} for record in read_records(folder)]


def logged(folder: Path) -> dict[int, dict[str, Any]]:
    """verl's metrics of each training step, without what a clock or the memory says."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("verl-*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            values = {k: v for k, v in entry["data"].items() if not re.match(r"timing|val-|(\w+/)?perf/", k)}
            if values:
                found[entry["step"]] = values
    return found


def logged_from(folder: Path, attempt: int) -> int:
    """The first training step that an attempt logged."""
    lines = sorted(folder.glob("verl-*.jsonl"))[attempt].read_text().splitlines()
    return min(entry["step"] for entry in map(json.loads, lines) if "training/global_step" in entry["data"])


def weights(folder: Path, step: int) -> dict[str, list[Any]]:
    return {name: value.tolist() for name, value in merged(folder / f"checkpoints/global_step_{step}/actor").items()}


def ours(home: Path) -> list[str]:
    """Processes that were started in this home and still live."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.info["cmdline"] or [])
            own = process.pid == os.getpid() or "resource_tracker" in command  # the test's, and multiprocessing's
            if not own and process.environ().get("HOME") == str(home):
                found.append(command[:80])
    return found
