"""What a run would take is told from what the last one took, before a cent is spent."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import yaml

from flows.estimate import Expected, describe, expect, note, total
from flows.extrapolation import BENCH, beyond, extrapolate
from flows.memory import Peak
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
    note(root, "train", mib=2_900)
    note(root, "train", seconds=120.0)
    write_metrics(root, "train", {"spend": {"calls": 40, "usd": 0.25}})
    found = expect(root, "train")
    assert (found.calls, found.usd, found.seconds) == (40, 0.25, 120.0)
    assert describe(found) == "40 calls, $0.2500, 2.0 min, 2,900 MiB"


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
    found = total({"a": Expected(1, 2.0, 60.0, 1.0, 900), "b": Expected(None, None, None, 1.0, 700)})
    assert describe(found) == "1 calls, $2.00, 60 s, 900 MiB"


def test_a_run_of_another_size_is_told_in_proportion(root: Path) -> None:
    params = load_params(root / "params.yaml")
    tests = 7 * params.ingest.sizes.test
    write_metrics(root, "profile", {"calls": 100, "candidates": {"x": {"cost_total": 5.0, "calls": 100}}})
    average = {"average": {"calls": 2.0, "n": 50, "cost_total": 4.0}}
    write_metrics(root, "evaluate", {"methods": {"router": average}})
    note(root, "evaluate", seconds=60)
    found = {each.stage: each for each in extrapolate(root, 10 * tests, 2 * len(params.pool.experts))}
    assert (found["profile"].found.calls, found["evaluate"].found.calls) == (200, 2_000)
    assert found["evaluate"].found.usd == pytest.approx(20 * 200e-6)
    assert describe(found["evaluate"].found).endswith("20.0 min")
    assert (found["train"].factor, found["train"].found.calls) == (1.0, None)


def bench(root: Path, stage: str, mib: list[int], **more: int) -> None:
    sizes = [{"questions": 1_000 * (place + 1), "mib": each} for place, each in enumerate(mib)]
    path = root / BENCH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"stage": stage, "unit": "MiB", "sizes": sizes, **more}]))


def memory_of(root: Path, stage: str, questions: int, candidates: int = 6) -> tuple[float | None, str]:
    found = {each.stage: each for each in extrapolate(root, questions, candidates)}[stage]
    return found.found.mib and round(found.found.mib), found.memory


def test_memory_goes_on_in_a_straight_line_from_the_sizes_of_the_bench_and_says_so(root: Path) -> None:
    bench(root, "ingest", [700, 800, 900])
    assert memory_of(root, "ingest", 10_000) == (
        1_600, f"extrapolated from 1,000 to 3,000 questions in {BENCH}"
    )  # fmt: skip
    assert memory_of(root, "ingest", 3_000)[1].startswith("measured")
    assert memory_of(root, "ingest", 2_500)[0] == 850
    assert memory_of(root, "ingest", 7) == (700, f"extrapolated from 1,000 to 3,000 questions in {BENCH}")


def test_memory_beyond_that_of_the_least_size_grows_with_the_candidates(root: Path) -> None:
    bench(root, "evaluate", [700, 800], candidates=6)
    assert memory_of(root, "evaluate", 2_000)[0] == 800
    assert memory_of(root, "evaluate", 2_000, candidates=12)[0] == 900


def test_a_chunk_that_fills_up_is_not_taken_for_growth(root: Path) -> None:
    bench(root, "evaluate", [700, 1_100, 1_101], candidates=6)
    assert memory_of(root, "evaluate", 103_000)[0] == 1_201
    sizes = [{"questions": 1_000, "mib": 700}, {"questions": 2_000, "mib": 1_100, "later": 2.0}]
    (root / BENCH).write_text(json.dumps([{"stage": "evaluate", "unit": "MiB", "sizes": sizes, "candidates": 6}]))
    assert memory_of(root, "evaluate", 102_000)[0] == 1_300, "2 MiB for the last thousand questions"


def test_a_stage_that_takes_more_than_there_is_is_named(root: Path) -> None:
    bench(root, "evaluate", [700, 800], candidates=6)
    found = extrapolate(root, 1_000_000, 6)
    assert (beyond(found, 24 * 1024), beyond(found, 200_000)) == (["evaluate"], [])


def test_what_the_last_run_took_beyond_the_bench_stays(root: Path) -> None:
    count = len(load_params(root / "params.yaml").pool.experts)
    bench(root, "evaluate", [700, 800], candidates=count)
    note(root, "evaluate", mib=2_300)
    assert memory_of(root, "evaluate", 3_000, count)[0] == 2_500


def test_memory_that_no_bench_measured_is_that_of_the_last_run(root: Path) -> None:
    assert memory_of(root, "train", 1_000_000) == (None, "")
    note(root, "train", mib=2_900)
    assert memory_of(root, "train", 1_000_000) == (2_900, "as in the last run")


def test_the_memory_of_a_stage_is_that_of_all_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.memory.EVERY_S", 0.0)
    hold = "import sys; held = b'x' * (64 << 20); print(flush=True); sys.stdin.read()"
    with ExitStack() as stack:

        def held() -> None:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", hold], stdin=PIPE, stdout=PIPE))
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            stack.callback(process.stdin.close)

        held()
        peak = Peak()
        peak.look()
        assert peak.mib is None, "what ran before is no part of it"
        held()
        held()
        peak.look()
    most = peak.mib
    assert most
    assert 128 <= most < 192
    peak.look()
    assert peak.mib == most
