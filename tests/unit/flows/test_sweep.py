"""`pointsman sweep` on real git and real DVC: experiments of a second each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows import dvc, experiments
from flows.dvc import environment
from flows.frontier import marks, write_frontier
from flows.sweep import Point, label, plan_sweep, run_sweep
from stages.shared.errors import ConfigurationError, ConflictError, IntegrityError
from stages.shared.workspace import RUNS

ROOT = Path(__file__).resolve().parents[3]
TRAIN = """
import os, pathlib, time
from stages.shared.entry import run_stage
from stages.shared.errors import DataError
from stages.shared.files import write_json
from stages.shared.progress import Progress

def main(params, workspace):
    write_json(workspace.runs("train") / f"ran-{time.time_ns()}.json", params.reward.cost_coefficient)
    with Progress("train", total=1, unit="steps", note="learning"):
        time.sleep(float(os.environ.get("NAP", "0")))
    if params.reward.cost_coefficient == 0.9:
        raise DataError("0.9 is too much; take less")
    write_json(workspace.artifacts("train") / "x.json", [params.reward.cost_coefficient, params.train.seed])

if __name__ == "__main__":
    raise SystemExit(run_stage("train", main))
"""
EVALUATE = """
import json, pathlib
alpha, seed = json.loads(pathlib.Path("artifacts/train/x.json").read_text())
def average(em, cost):
    return {"average": {"em": em, "em_low": em - .03, "em_high": em + .03, "cost": cost, "calls": 1.5}}
methods = {
    "router": average(.8 - alpha / 10 + seed / 1000, 100 * (1 - alpha)), "oracle": average(.95, 20),
    "fixed:Arlix": average(.4, 60), "forced:Arlix": average(.5, 90),
}
pathlib.Path("artifacts/evaluate").mkdir(parents=True)
pathlib.Path("artifacts/evaluate/x").write_text(str(alpha))
pathlib.Path("metrics").mkdir(exist_ok=True)
json.dump({"methods": methods, "router": {"synthetic": True}}, open("metrics/evaluate.json", "w"))
"""
STAGES = {
    "ingest": {"cmd": "python ingest.py", "deps": ["ingest.py"], "params": ["ingest"], "outs": ["artifacts/ingest"]},
    "train": {
        "cmd": "python train.py", "deps": ["train.py", "artifacts/ingest"], "params": ["reward", "train"],
        "outs": ["artifacts/train"],
    },
    "evaluate": {
        "cmd": "python evaluate.py", "deps": ["evaluate.py", "artifacts/train"], "outs": ["artifacts/evaluate"],
        "metrics": [{"metrics/evaluate.json": {"cache": False}}],
    },
    "publish": {"cmd": "python publish.py", "deps": ["publish.py", "artifacts/evaluate"]},
}  # fmt: skip
KEY = "reward.cost_coefficient"


@pytest.fixture(scope="module")
def prepared(never_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed repository whose first stage has run, to copy."""
    root = tmp_path_factory.mktemp("prepared")
    shutil.copytree(never_run, root, dirs_exist_ok=True)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (root / "train.py").write_text(TRAIN)
    (root / "evaluate.py").write_text(EVALUATE)
    (root / "publish.py").write_text("raise SystemExit('a sweep publishes nothing')")
    (root / "ingest.py").write_text(
        "import pathlib; pathlib.Path('artifacts/ingest').mkdir(parents=True);"
        "pathlib.Path('artifacts/ingest/x').write_text('1')"
    )
    for key, value in (("user.name", "a"), ("user.email", "a@b"), ("commit.gpgsign", "false")):
        subprocess.run(["git", "-C", str(root), "config", key, value], check=True)
    dvc.repro(root, "ingest")
    commit(root)
    return root


@pytest.fixture
def pipeline(prepared: Path, repository) -> Path:
    """A committed repository whose first stage has run; training takes NAP seconds and fails at 0.9."""
    root: Path = repository.root
    shutil.rmtree(root)
    shutil.copytree(prepared, root)
    return root


def commit(root: Path) -> None:
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), "commit", "-qm", "x"], check=True)


def ran(root: Path) -> list[float]:
    return [json.loads(path.read_text()) for path in sorted((root / ".pointsman/runs/train").glob("ran-*.json"))]


def quiet(line: str) -> None:
    """Nobody watches."""


@pytest.mark.slow
def test_a_sweep_runs_each_point_once_and_draws_them_beside_the_baselines(repository, pipeline: Path) -> None:
    """One of the points fails: it is told with its reason, and is all that the next call has to run."""
    before = dvc.git(pipeline, "status", "--short")
    command = "sweep", f"{KEY}=0.6,0.9", "--seeds", "1", "--only-from", "train", "--json"
    done = repository.pointsman(*command)
    assert done.returncode == 1
    assert "cost_coefficient=0.9, seed=1 failed" in done.stderr
    assert "0.9 is too much; take less" in done.stderr
    found = json.loads(done.stdout)
    assert [mark["name"] for mark in found["marks"]] == ["cost_coefficient=0.6", "oracle", "fixed:Arlix"]
    assert found["marks"][0]["em"] == pytest.approx(0.741)
    page = Path(found["page"])
    assert page.parent == pipeline / ".pointsman" / "sweeps" / "reward-cost-coefficient-train-seed"
    assert "Synthetic" in page.read_text()
    assert "<svg" in page.read_text()
    assert "http" not in page.read_text().replace("http://www.w3.org/", "")
    assert dvc.git(pipeline, "status", "--short") == before
    assert experiments.queue(pipeline) == {}
    assert ran(pipeline) == [0.6, 0.9]
    again = plan_sweep(pipeline, [f"{KEY}=0.6,0.9"], [1], "train")
    done_before = again.done()
    assert [dict(point.settings)[KEY] for point in again.points if point not in done_before] == ["0.9"]


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_nothing_running_and_goes_on(pipeline: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "sweep", f"{KEY}=0.3"]
    env = environment() | {"PYTHONPATH": str(ROOT), "NAP": "60"}
    process = subprocess.Popen(command, cwd=pipeline, env=env, text=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not ran(pipeline):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert not [line for line in commands() if str(pipeline) in line]
    assert experiments.queue(pipeline) == {}
    again = subprocess.run(command, cwd=pipeline, env=env | {"NAP": "0"}, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert ran(pipeline) == [0.3, 0.3]


def commands() -> list[str]:
    """The working folder of every process of this user that can be read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found.append(str(path.readlink()))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="takes half a minute: make test-faults")
def test_a_worker_that_was_killed_leaves_nothing_that_stops_the_next_sweep(pipeline: Path, monkeypatch) -> None:
    monkeypatch.setenv("NAP", "30")
    sweep = plan_sweep(pipeline, [f"{KEY}=0"], [], None)
    point = sweep.points[0]
    experiments.enqueue(pipeline, point.name, dict(point.settings), "evaluate")
    with dvc.work_off(pipeline, {RUNS: str(pipeline / ".pointsman/runs")}) as worker:
        deadline = time.monotonic() + 120
        while not ran(pipeline) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert experiments.queue(pipeline) == {point.name: "Running"}
    monkeypatch.setenv("NAP", "0")
    assert run_sweep(sweep, quiet, quiet) == {}
    assert list(sweep.done()) == [point]


@pytest.mark.slow
def test_somebody_elses_queue_is_not_worked_off(pipeline: Path) -> None:
    experiments.enqueue(pipeline, "theirs", {KEY: "0.5"}, "evaluate")
    with pytest.raises(ConflictError, match="theirs"):
        run_sweep(plan_sweep(pipeline, [f"{KEY}=0"], [], None), quiet, quiet)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (["reward.cost_coefficient"], "no axis"),
        (["reward.cost_coefficient=0,0"], "each value once"),
        (["reward.cost_coefficient=2"], "less than or equal to 1"),
        (["reward.alpha=0,1"], r"reward\.alpha: unknown key"),
        (["train.seed.deeper=1"], "train.seed.deeper"),
    ],
)
def test_axes_are_checked_before_anything_runs(pipeline: Path, axes: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        plan_sweep(pipeline, axes, [], None)


def test_only_from_refuses_what_would_run_or_change_before_it(pipeline: Path) -> None:
    plan_sweep(pipeline, [f"{KEY}=0"], [], "train")
    with pytest.raises(ConfigurationError, match=r"ingest\.seed is a parameter of ingest"):
        plan_sweep(pipeline, ["ingest.seed=1,2"], [], "train")
    (pipeline / "ingest.py").write_text("# changed\n" + (pipeline / "ingest.py").read_text())
    with pytest.raises(ConfigurationError, match="ingest would run before it"):
        plan_sweep(pipeline, [f"{KEY}=0"], [], "train")
    with pytest.raises(ConfigurationError, match="there are: ingest, train, evaluate, publish"):
        plan_sweep(pipeline, [f"{KEY}=0"], [], "third")


def test_changed_code_makes_other_experiments_and_a_new_lock_file_does_not(pipeline: Path) -> None:
    def name() -> str:
        return plan_sweep(pipeline, [f"{KEY}=0"], [], None).points[0].name

    first = name()
    (pipeline / "dvc.lock").write_text((pipeline / "dvc.lock").read_text() + "# more\n")
    assert name() == first
    (pipeline / "train.py").write_text(TRAIN + "# more\n")
    assert name() != first


def test_a_repository_without_a_commit_says_so(repository) -> None:
    with pytest.raises(ConfigurationError, match="no commit yet"):
        experiments.baseline(repository.root)


def evaluation(em: float, cost: float) -> dict[str, object]:
    average = {"em": em, "em_low": em - 0.1, "em_high": em + 0.1, "cost": cost, "calls": 1.0}
    return {"methods": {"router": {"average": average}, "random": {"average": average | {"em": 0.1}}}}


def test_a_setting_that_another_beats_in_both_is_not_on_the_frontier(tmp_path: Path) -> None:
    found = marks({"a": [evaluation(0.8, 10)], "b": [evaluation(0.7, 20)], "c": [evaluation(0.6, 5)]}, {})
    assert [(mark.name, mark.on_frontier) for mark in found] == [
        ("a", True), ("b", False), ("c", True), ("random", False)
    ]  # fmt: skip
    write_frontier(tmp_path, "<b>", found, synthetic=False)
    assert "<b>" not in (tmp_path / "frontier.html").read_text().replace("<b>Synthetic", "")
    assert "Synthetic" not in (tmp_path / "frontier.html").read_text()


def test_seeds_of_a_setting_have_the_interval_of_their_pool() -> None:
    pool = {"methods": {"router": {"em": 0.7, "low": 0.52, "high": 0.88}}}
    (mark, _) = marks({"a": [evaluation(0.8, 10), evaluation(0.6, 30)]}, {"a": pool})
    assert (mark.em, mark.low, mark.high, mark.cost, mark.seeds) == pytest.approx((0.7, 0.52, 0.88, 20, 2))
    assert mark.em_by_seed == (0.8, 0.6)


def test_several_seeds_without_their_pool_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not an evaluation"):
        marks({"a": [evaluation(0.8, 10), evaluation(0.6, 30)]}, {})


def test_metrics_of_another_shape_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not an evaluation"):
        marks({"a": [{"methods": {}}]}, {})


def test_a_label_is_short() -> None:
    assert label((("reward.cost_coefficient", "0.3"), ("train.seed", "1"))) == "cost_coefficient=0.3, seed=1"
    assert str(Point((("a.b", "1"),), "x")) == "b=1"
