"""What a run would take is told from what the last one took, before a cent is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.estimate import Expected, describe, expect, note_seconds, total
from flows.extrapolation import extrapolate
from stages.shared.params import load_params

ROOT = Path(__file__).resolve().parents[3]
LEDGER = [
    {"begin": "a-1", "most": 9, "candidate": "x"},
    {"end": "a-1", "cost": 3_000_000_000_000},
    {"end": "a-2", "cost": None},
    {"finished": "now"},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "infra/profiles/smoke.yaml").read_bytes())
    return tmp_path


def write_metrics(root: Path, stage: str, value: dict[str, Any]) -> None:
    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics" / f"{stage}.json").write_text(json.dumps(value))


def lock(root: Path, stage: str, change: dict[str, Any]) -> None:
    """Outputs that were made with the present parameters, but for the changes: `train.ppo.steps` -> value."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    for key, value in change.items():
        *parents, last = key.split(".")
        place = params
        for parent in parents:
            place = place[parent]
        place[last] = value
    text = yaml.safe_dump({"stages": {stage: {"params": {"params.yaml": params}}}})
    (root / "dvc.lock").write_text(text)


def ledger(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "train-abc-0001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_nothing_is_known_before_the_first_run(root: Path) -> None:
    found = expect(root, "train")
    assert found == Expected(None, None, None, 1.0)
    assert describe(found) == ""


def test_a_stage_takes_what_it_took(root: Path) -> None:
    note_seconds(root, "train", 120.0)
    write_metrics(root, "train", {"spend": {"calls": 40, "usd": 0.25}})
    found = expect(root, "train")
    assert (found.calls, found.usd, found.seconds) == (40, 0.25, 120.0)
    assert describe(found) == "40 calls, $0.2500, 2.0 min"


def test_what_the_ledger_says_was_paid_comes_before_what_metrics_count(root: Path) -> None:
    write_metrics(root, "train", {"spend": {"calls": 40, "usd": 0.25}})
    ledger(root / ".pointsman/runs/ledger", LEDGER)
    assert (expect(root, "train").calls, expect(root, "train").usd) == (2, 3.0)


def test_the_ledger_of_a_container_is_read_too(root: Path) -> None:
    ledger(root / ".pointsman/runs/0123456789ab/ledger", LEDGER)
    assert expect(root, "train").usd == 3.0


def test_a_profile_costs_what_its_candidates_did(root: Path) -> None:
    each = {"calls": 100, "cost_total": 50.0}
    write_metrics(root, "profile", {"calls": 200, "candidates": {"a": each, "b": each}})
    assert expect(root, "profile").usd == pytest.approx(0.01)


def test_twice_the_steps_take_twice_the_calls_and_only_ppos_time_grows(root: Path) -> None:
    steps = yaml.safe_load((root / "params.yaml").read_text())["train"]["ppo"]["steps"]
    lock(root, "train", {"train.ppo.steps": steps / 2 if steps % 2 else steps // 2})
    write_metrics(root, "train", {"spend": {"calls": 40, "usd": 0.25}, "seconds": {"base": 100.0, "ppo": 60.0}})
    found = expect(root, "train")
    assert (found.calls, found.growth, found.seconds) == (80, 2.0, 220.0)


def test_more_candidates_and_more_questions_are_more_calls(root: Path) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    lock(root, "profile", {"pool.experts": raw["pool"]["experts"][:4]})
    write_metrics(root, "profile", {"calls": 100, "candidates": {}})
    assert expect(root, "profile").calls == 200


def test_parameters_that_an_older_version_kept_otherwise_change_nothing(root: Path) -> None:
    lock(root, "train", {"train.ppo": {"cycles": 3}})
    write_metrics(root, "train", {"spend": {"calls": 40, "usd": 0.25}})
    assert expect(root, "train").calls == 40


def test_a_sum_leaves_out_what_is_not_known() -> None:
    found = total({"a": Expected(1, 2.0, 60.0, 1.0), "b": Expected(None, None, None, 1.0)})
    assert describe(found) == "1 calls, $2.00, 60 s"


def test_a_run_of_another_size_is_told_in_proportion(root: Path) -> None:
    params = load_params(root / "params.yaml")
    tests = 7 * params.ingest.sizes.test
    write_metrics(root, "profile", {"calls": 100, "candidates": {"x": {"cost_total": 5.0, "calls": 100}}})
    average = {"average": {"calls": 2.0, "n": 50, "cost_total": 4.0}}
    write_metrics(root, "evaluate", {"methods": {"router": average}})
    note_seconds(root, "evaluate", 60)
    found = {each.stage: each for each in extrapolate(root, 10 * tests, 2 * len(params.pool.experts))}
    assert (found["profile"].found.calls, found["evaluate"].found.calls) == (200, 2_000)
    assert found["evaluate"].found.usd == pytest.approx(20 * 200e-6)
    assert describe(found["evaluate"].found).endswith("20.0 min")
    assert (found["train"].factor, found["train"].found.calls) == (1.0, None)
