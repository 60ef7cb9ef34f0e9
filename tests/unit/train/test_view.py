"""The view of a training in the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from stages.train.ppo.record import Phase, StepRecord, append_record
from stages.train.ppo.tenure import is_alive, tenure
from stages.train.ppo.view import BARS, WIDTH, Run, curve, picture
from stages.train.view import main


def record(step: int, phase: Phase, em: float) -> StepRecord:
    return StepRecord(
        step=step, phase=phase, n=8, failed=0, reward=em, r_format=0.0, r_outcome=em, r_cost=0.5, format=1.0, em=em,
        f1=em, cost=2.0, calls=1.5, tokens=40.0, seconds=3.0, playing_s=1.0, low=0.0, high=3.0, paid_calls=12,
        paid=16.0, shares={"Arlix": 0.75, "Bomon": 0.25},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of sixteen steps that has come to its third."""
    (tmp_path / "reads.json").write_text(json.dumps({"train.ppo.steps": 16}))
    for line in (record(0, "validation", 0.25), *(record(step, "train", step / 10) for step in (1, 2, 3))):
        append_record(tmp_path, line)
    sample = {
        "step": 3, "question": "what is the quarry of zumako ?", "answers": ["belane"], "calls": [], "faults": [],
        "turns": [["<think> done </think> <answer> belane </answer>", ""]],
        "reward": {"total": 1.0, "format": 0.0, "outcome": 1.0, "cost_term": 0.5, "em": 1.0, "cost": 2.0},
    }  # fmt: skip
    (tmp_path / "episodes.jsonl").write_text(json.dumps(sample) + '\n{"step": 4, "quest')
    return tmp_path


def shown(folder: Path) -> str:
    console = Console(width=100)
    with console.capture() as told:
        console.print(picture(Run.read(folder)))
    return told.get()


def test_it_shows_how_far_it_is_its_curves_its_routing_and_an_episode(folder: Path) -> None:
    text = shown(folder)
    assert "step 3 of 16, about 39 s left" in text
    (row,) = (line for line in text.splitlines() if line.startswith("exact match"))
    assert row.split() == ["exact", "match", "0.3", "▁▅█", "0.25"]
    assert "Arlix   75%" in text
    assert "what is the quarry of zumako ?" in text


def test_large_numbers_are_written_out(folder: Path) -> None:
    append_record(folder, replace(record(4, "train", 0.5), tokens=5436.0))
    rows = [line for line in shown(folder).splitlines() if line.startswith(("response tokens", "tokens a second"))]
    assert any("5,436" in row for row in rows)
    assert not any("e+0" in row for row in rows)


def test_a_curve_spans_its_least_and_greatest_value_and_shows_the_last_ones() -> None:
    assert curve([0.0, 7.0]) == BARS[0] + BARS[-1]
    assert curve([2.0, 2.0]) == BARS[0] * 2
    assert curve([]) == ""
    assert curve([9.0] + [0.0] * WIDTH) == BARS[0] * WIDTH


def test_a_run_that_nobody_trains_is_shown_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(folder)]) == 0
    assert "step 3 of 16" in capsys.readouterr().out
    assert main(["--run", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["step"] for one in told["records"]] == [1, 2, 3, 0]


def test_without_a_run_it_says_what_begins_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "`pointsman run` begins one" in capsys.readouterr().err
    assert main(["--run", str(tmp_path)]) == 2
    assert "it has no reads.json" in capsys.readouterr().err


def test_to_look_whether_a_run_lives_keeps_nobody_from_it(tmp_path: Path) -> None:
    assert not is_alive(tmp_path)
    with tenure(tmp_path) as held:
        assert is_alive(tmp_path)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        held.started(child.pid)
        assert is_alive(tmp_path)
        child.kill()
        child.wait()
        assert not psutil.pid_exists(child.pid)
        assert not is_alive(tmp_path)
    assert not is_alive(tmp_path)
