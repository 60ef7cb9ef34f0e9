"""Stages as jobs of a real cluster, which is there: the same outputs as of processes, and no job is left behind.

`make test-kubernetes` runs it, with
KUBECONFIG                 the way to the cluster, best as the service account `worker` of infra/kubernetes/base.yaml
POINTSMAN_TEST_KUBERNETES  NAME@sha256:…, the image that `make images` made, in a registry that the cluster pulls from
POINTSMAN_TEST_VOLUME      where the claim `pointsman-work` is mounted here, and so in jobs (default: /srv)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.container import container_name
from flows.process import environment
from flows.settings import write_settings
from stages.shared.artifacts import MANIFEST
from stages.shared.files import sha256

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("POINTSMAN_TEST_KUBERNETES", "")
VOLUME = Path(os.environ.get("POINTSMAN_TEST_VOLUME", "/srv"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IMAGE, reason="needs a cluster: make test-kubernetes")]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the volume that jobs may write in."""
    folder = VOLUME / f"test-{uuid4().hex[:8]}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def checkout(root: Path, **settings: Any) -> Path:
    """The code as it stands, with the parameters of `smoke`."""
    for name in ("flows", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "infra/profiles/smoke.yaml", root / "params.yaml")
    write_settings(root / "params.yaml", {f"stage.{name}": value for name, value in settings.items()})
    return root


def in_jobs(root: Path, **settings: Any) -> Path:
    place = {"mount": str(VOLUME), "cpu": "100m", **settings.pop("kubernetes", {})}
    chosen = {"runtime": "kubernetes", "images.cpu": IMAGE, "memory": "2g", **settings}
    return checkout(root, **chosen, **{f"kubernetes.{name}": value for name, value in place.items()})


def start(root: Path, stage: str) -> subprocess.Popen[str]:
    """One stage, by the command of dvc.yaml."""
    command = [sys.executable, "-m", "flows.launch", stage]
    env = environment() | {"PYTHONPATH": str(root)}
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)  # fmt: skip


def ran(root: Path, stage: str = "ingest") -> tuple[int, str]:
    launcher = start(root, stage)
    said, _ = launcher.communicate()
    return launcher.returncode, said


def failed(root: Path) -> dict[str, Any]:
    """What the flow finds."""
    found: dict[str, Any] = json.loads((root / ".pointsman/errors/ingest.json").read_text())
    return found


def hashes(root: Path, stage: str) -> dict[str, str]:
    folder = root / "artifacts" / stage
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def pods(root: Path) -> list[Any]:
    from lightkube import Client
    from lightkube.resources.core_v1 import Pod

    return list(Client(namespace="pointsman").list(Pod, labels={"job-name": container_name("ingest", root)}))


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(root: Path) -> bool:
    return any(pod.status.phase == "Running" for pod in pods(root))


def test_jobs_make_the_same_as_processes_and_their_log_is_the_launchers(place: Path) -> None:
    by_job, by_process = in_jobs(place / "job"), checkout(place / "process")
    for stage in ("ingest", "profile"):
        outcomes = [ran(root, stage) for root in (by_job, by_process)]
        assert [code for code, _ in outcomes] == [0, 0], outcomes
        assert outcomes[0][1].splitlines()[-1] == outcomes[1][1].splitlines()[-1]
        assert MANIFEST in hashes(by_job, stage)
        assert hashes(by_job, stage) == hashes(by_process, stage)
        both = [json.loads((root / "metrics" / f"{stage}.json").read_text()) for root in (by_job, by_process)]
        assert both[0] == both[1]


def test_a_job_that_is_out_of_memory_names_the_limit(place: Path) -> None:
    root = in_jobs(place / "job", memory="40m")
    assert ran(root)[0] == 1
    assert (failed(root)["kind"], failed(root)["retryable"]) == ("budget", False)
    assert "raise stage.memory" in failed(root)["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_its_launcher_however_that_dies(number: signal.Signals, place: Path) -> None:
    root = sleeping(in_jobs(place / "job"))
    launcher = start(root, "ingest")
    until(lambda: runs(root))
    os.killpg(launcher.pid, number)
    launcher.communicate()
    until(lambda: not pods(root))


def sleeping(root: Path) -> Path:
    """Its ingest only waits."""
    (root / "stages/ingest/__main__.py").write_text("import time; print('begun', flush=True); time.sleep(600)")
    return root


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kubernetes": {"namespace": "no-such-namespace"}}, "no-such-namespace"),
        ({"images.cpu": "localhost:1/no-such-image@sha256:" + "5" * 64}, "cannot start"),
    ],
    ids=["namespace", "image"],
)
def test_what_a_person_has_to_change_ends_with_2_and_says_so(settings: dict[str, Any], said: str, place: Path) -> None:
    root = in_jobs(place / "job", **settings)
    assert ran(root)[0] == 2
    assert said in failed(root)["message"]
    assert not pods(root)
