"""`pointsman doctor` as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flows.doctor import _room, packages
from stages.shared.errors import ConfigurationError
from stages.shared.finding import Finding, read_findings

ROOT = Path(__file__).resolve().parents[3]


def findings(text: str) -> dict[str, dict[str, str]]:
    return {item["name"]: item for group in json.loads(text)["groups"] for item in group["findings"]}


@pytest.mark.slow
def test_a_machine_that_can_run_the_parameters_is_told_so(repository) -> None:
    done = repository.pointsman("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = findings(done.stdout)
    assert json.loads(done.stdout)["can_run"] is True
    assert {"Python", "cores", "memory", "GPU", "memory for PPO", "questions", "Arlix", "store"} <= set(found)
    assert "actor optimizer" in found["memory for PPO"]["found"]


@pytest.mark.slow
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_a_profile_for_gpus_says_what_is_missing_with_exit_code_2(repository, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("NVIDIA_API_KEY", raising=False)
    profiles = repository.root / "infra" / "profiles"
    profiles.mkdir(parents=True)
    raw = yaml.safe_load((ROOT / "infra" / "profiles" / "paper-qwen.yaml").read_text())
    (profiles / "paper-qwen.yaml").write_text(yaml.safe_dump(raw))
    done = repository.pointsman("doctor", "--profile", "paper-qwen")
    assert done.returncode == 2
    assert "WRONG GPU: no GPU" in done.stdout
    assert "export NVIDIA_API_KEY=" in done.stdout
    assert "requirements-gpu.txt missing: vllm" in done.stdout


def test_an_unknown_profile_is_refused_with_the_list(repository) -> None:
    done = repository.pointsman("doctor", "--profile", "nobody")
    assert done.returncode == 2
    assert "no profile is called 'nobody'" in done.stderr


def test_packages_are_compared_with_what_is_pinned(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("pytest==0.1\nno-such-thing[extra]==2.0 ; sys_platform == 'linux'\n")
    assert "no-such-thing" in packages(pins, "make setup").found
    assert packages(pins, "make setup").state == "wrong"
    pins.write_text("pytest==0.1\n")
    finding = packages(pins, "make setup")
    assert finding.state == "note"
    assert "for 0.1" in finding.found


def test_a_check_that_fails_is_a_finding_with_its_last_words(tmp_path: Path) -> None:
    (finding,) = _room(tmp_path, "nowhere", tmp_path / "params.yaml")
    assert finding.state == "wrong"
    assert "No module named" in finding.found


def test_an_error_is_parted_into_what_was_found_and_what_to_do() -> None:
    finding = Finding.of("x", ConfigurationError("the door is shut; it is locked; find the key"))
    assert (finding.found, finding.todo) == ("the door is shut; it is locked", "find the key")
    assert Finding.of("x", ConfigurationError("shut")).found == "shut"


def test_findings_are_read_past_what_else_was_printed() -> None:
    assert read_findings('noise\n[{"name": "x", "state": "good", "found": "y", "todo": ""}]\n') == [
        Finding("x", "good", "y")
    ]
