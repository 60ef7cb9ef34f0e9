"""The command line, as its users meet it: real processes in a real repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import dvc
from flows.estimate import note

ROOT = Path(__file__).resolve().parents[3]
FAILING = """
from stages.shared.entry import run_stage
from stages.shared.errors import DataError

def main(params, workspace):
    raise DataError("row 7 is odd; remove it")

raise SystemExit(run_stage("first", main))
"""
HEAVY = ("torch", "prefect", "dvc", "transformers", "verl", "pandas", "rich.live")


def test_help_answers_quickly_because_it_loads_nothing_heavy() -> None:
    code = f"import flows.cli, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    start = time.process_time()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "plan" in done.stdout
    assert time.process_time() - start < 1


def test_what_moves_a_channel_loads_no_parameters_here_for_the_process_that_moves_it_does() -> None:
    code = "import flows.cli, flows.dvc, flows.journal, sys; raise SystemExit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_parameters_load_without_torch() -> None:
    code = "import stages.shared.params, sys; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_plan_says_what_would_run_and_why(repository) -> None:
    plan = json.loads(repository.pointsman("plan", "--json").stdout)
    assert [(item["stage"], item["stale"], item["reasons"]) for item in plan] == [
        ("first", True, ["it has not run yet"]),
        ("second", True, ["it has not run yet"]),
    ]


def test_an_unchanged_run_says_that_nothing_ran(repository) -> None:
    for stage in ("first", "second"):
        dvc.repro(repository.root, stage)
    done = repository.pointsman("run")
    assert done.returncode == 0
    assert "Nothing to run: every stage is up to date" in done.stdout
    assert not (repository.root / ".pointsman" / "prefect").exists()


def test_a_wrong_parameter_is_one_message_and_exit_code_2(repository) -> None:
    path = repository.root / "params.yaml"
    path.write_text(path.read_text() + "surprise: 1\n")
    done = repository.pointsman("run")
    assert done.returncode == 2
    assert "surprise: unknown key" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_parameters_say_how_to_write_some(repository) -> None:
    (repository.root / "params.yaml").unlink()
    done = repository.pointsman("plan")
    assert done.returncode == 2
    assert "pointsman use sandbox" in done.stderr


def test_a_torn_lock_file_is_one_message_with_the_way_out(repository) -> None:
    (repository.root / "dvc.lock").write_text("schema: '2.0")
    done = repository.pointsman("plan")
    assert done.returncode == 2
    assert "git checkout dvc.lock" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_described_in_full_on_80_columns() -> None:
    command, narrow = [sys.executable, "-m", "flows.cli", "--help"], os.environ | {"COLUMNS": "80"}
    done = subprocess.run(command, cwd=ROOT, env=narrow, capture_output=True, text=True, check=True)
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_help_lists_the_commands_as_the_readme_does() -> None:
    command = [sys.executable, "-m", "flows.cli", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([a-z]+) ", said.partition("Commands:")[2], flags=re.MULTILINE)
    rows = [line.split(" | ")[0] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `po")]
    assert listed == [name for row in rows for name in re.findall(r"`(?:pointsman )?([a-z]+)", row)]


def test_a_terminal_that_lacks_a_sign_gets_a_question_mark(repository) -> None:
    cell = {"em": 0.5, "em_low": 0.4, "em_high": 0.6, "f1": 0.5, "cost": 1.0, "calls": 1.0}
    metrics = {"methods": {"naïve ✓": {"average": cell}}}
    (repository.root / "metrics").mkdir(exist_ok=True)
    (repository.root / "metrics" / "evaluate.json").write_text(json.dumps(metrics))
    done = repository.pointsman("metrics", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "na?ve ?" in done.stdout


def test_an_unknown_stage_is_refused_with_the_list(repository) -> None:
    done = repository.pointsman("run", "--only", "third")
    assert done.returncode == 2
    assert "first, second" in done.stderr


def test_outside_a_repository_the_message_says_so(repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = type(repository)(tmp_path_factory.mktemp("elsewhere"))
    done = elsewhere.pointsman("run")
    assert done.returncode == 2
    assert "run pointsman inside its repository" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_run_is_a_flow_that_stops_at_the_first_failure_with_its_message_and_no_traceback(repository) -> None:
    repository.write("second", FAILING.replace('"first"', '"second"'))
    done = repository.pointsman("run")
    assert done.returncode == 1
    assert "pointsman: second: row 7 is odd; remove it" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout.index("first: ran") < done.stdout.index("==> second") < done.stdout.index("second: failed")
    assert (repository.root / "artifacts" / "first" / "text").read_text() == "48"
    assert (repository.root / ".pointsman" / "logs" / "first.log").read_text().startswith("Running stage 'first'")


def test_the_plan_says_what_a_run_would_take_and_what_is_not_known_of_it(repository) -> None:
    note(repository.root, "first", seconds=240.0)
    said = repository.pointsman("plan").stdout
    assert "would run: 4.0 min" in said
    assert "Expected in all: 4.0 min; not known of first, second" in said
