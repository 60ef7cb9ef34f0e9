"""Two steps of the real trainer: verl and Ray, actor, critic, reference, rollout and driver, candidates over HTTP."""

from __future__ import annotations

import contextlib
import csv
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.shared.params import Params, TinyPolicy, parse_params
from stages.shared.policy import load_policy
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import Question
from stages.train.ppo.checkpoint import export
from stages.train.ppo.curves import write_curves
from stages.train.ppo.record import read_records
from stages.train.ppo.stage import Inputs, ppo
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer

pytestmark = pytest.mark.slow


def small(profile: Any, **settings: Any) -> Params:
    params: Params = profile(
        "smoke",
        steps=2,
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


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    words = build_tokenizer()
    folder = tmp_path / "policy"
    build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0).save_pretrained(
        folder
    )
    words.save_pretrained(folder)
    return folder


def test_two_steps_leave_checkpoints_curves_a_policy_and_no_process(
    tmp_path: Path, policy: Path, questions: list[Question], profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    params = small(profile, advantage="gae")
    seen = tuple(Descriptor(expert.name, expert.price, 0.5) for expert in params.pool.experts if expert.seen)
    inputs = Inputs(questions, questions[:3], seen)
    folder = tmp_path / "run"
    folder.mkdir()
    assert ppo(params, policy, inputs, folder, tmp_path / ".pointsman") == 2
    records = read_records(folder)
    assert [(r.phase, r.step, r.n) for r in records] == [
        ("train", 1, 8), ("train", 2, 8), ("validation", 0, 3), ("validation", 2, 3)
    ]  # fmt: skip
    write_curves(tmp_path / "curves.csv", records, folder)
    with (tmp_path / "curves.csv").open() as file:
        trained = [row for row in csv.DictReader(file) if row["phase"] == "train"]
    assert all(float(row["gradient"]) > 0 and row["value_loss"] and row["kl"] for row in trained)
    assert float(trained[0]["kl"]) == pytest.approx(0.0, abs=1e-4)
    export(folder / "checkpoints", 2, policy, tmp_path / "out")
    moved = load_policy(tmp_path / "out").state_dict()
    assert any(not value.equal(moved[name]) for name, value in load_policy(policy).state_dict().items())
    assert ours(home) == []


def ours(home: Path) -> list[str]:
    """Processes that were started in this home and still live."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("HOME") == str(home):
                found.append(" ".join(process.info["cmdline"] or [])[:80])
    return found
