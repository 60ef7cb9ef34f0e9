"""Stages in real containers of the image for the CPU: confined, the same each time, gone with their launcher.

`make test-containers` runs it; it takes minutes, so `make test` does not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.container import engine_command
from flows.dvc import environment
from flows.needs import needs_of
from flows.server import SETTINGS
from flows.settings import write_settings
from flows.stack import standing
from stages.shared.artifacts import MANIFEST
from stages.shared.files import sha256
from stages.shared.params import load_params

ROOT = Path(__file__).resolve().parents[2]
NAME = "localhost/pointsman-cpu"
REPRODUCED = ("ingest", "profile", "evaluate")
ASKED = bool(os.environ.get("POINTSMAN_TEST_CONTAINERS"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="takes minutes: make test-containers"),
    pytest.mark.skipif(ASKED and shutil.which("podman") is None, reason="Podman is not installed"),
]


@pytest.fixture(scope="session")
def image() -> str:
    """The id of the image."""
    command = ["podman", "image", "inspect", "--format", "{{.Id}}", NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"there is no image {NAME}: make images")
    return "sha256:" + done.stdout.strip().removeprefix("sha256:")


def checkout(root: Path, image: str, runtime: str = "podman") -> Path:
    """The code as it stands, with the parameters of `smoke`, in containers."""
    for name in ("flows", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "infra/profiles/smoke.yaml", root / "params.yaml")
    used = {"stage.images.cpu": image} if runtime != "process" else {}
    write_settings(root / "params.yaml", {"stage.runtime": runtime, **used})
    return root


def launch(root: Path, stage: str, **variables: str) -> None:
    """Run one stage, by the command of dvc.yaml."""
    env = environment() | {"PYTHONPATH": str(root)} | variables
    command = [sys.executable, "-m", "flows.launch", stage]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="session")
def first(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which every stage up to the evaluation has run, each in a container of its own."""
    root = checkout(tmp_path_factory.mktemp("first") / "checkout", image)
    for stage in ("ingest", "profile", "train", "evaluate"):
        launch(root, stage)
    return root


def hashes(root: Path, stage: str) -> dict[str, str]:
    folder = root / "artifacts" / stage
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_the_same_inputs_in_two_fresh_containers_give_the_same_outputs(first: Path, image: str, tmp_path: Path) -> None:
    second = checkout(tmp_path / "checkout", image)
    shutil.copytree(first / "artifacts/train", second / "artifacts/train")
    for stage in REPRODUCED:
        launch(second, stage)
        assert hashes(second, stage) == hashes(first, stage), stage
        assert MANIFEST in hashes(first, stage)
        of_both = [json.loads((root / "metrics" / f"{stage}.json").read_text()) for root in (first, second)]
        assert of_both[0] == of_both[1], stage


LOOK = """
import json, os, pathlib, socket
def refused(path):
    try:
        pathlib.Path(path).write_text("x")
    except OSError as error:
        return error.strerror
try:
    socket.create_connection(("192.0.2.1", 80), 2)
except OSError as error:
    network = error.strerror
print(json.dumps({
    "uid": os.getuid(), "network": network, "interfaces": [name for _, name in socket.if_nameindex()],
    "root": refused("/opt/x"), "code": refused("params.yaml"), "others": refused("artifacts/ingest/x"),
    "own": refused("artifacts/x"),
    "capabilities": next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")),
    "memory": next((int(path.read_text()) for path in map(pathlib.Path, (
        "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")) if path.exists()), None),
}))
"""


def test_a_stage_within_is_nobody_reaches_nothing_and_writes_its_outputs_alone(image: str, tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout", image)
    (root / "artifacts/ingest").mkdir(parents=True)
    for name in ("artifacts", "metrics", ".pointsman"):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(0o777)
    params = load_params(root / "params.yaml")
    command = engine_command("podman", "look", "profile", needs_of("profile", params, root, image), params.stage, root)
    done = subprocess.run([*command[:-2], "-c", LOOK], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["uid"] != 0
    assert found["interfaces"] == ["lo"]
    assert found["network"] == "Network is unreachable"
    assert {found["root"], found["code"], found["others"]} <= {"Read-only file system", "Permission denied"}
    assert found["own"] is None
    assert int(found["capabilities"], 16) == 0
    assert found["memory"] == 12 << 30


def test_a_stage_ends_with_its_launcher_however_that_dies(image: str, tmp_path: Path) -> None:
    options = ["--rm", "--name", "pointsman-orphan", "--network=none", "--user=0", f"--volume={tmp_path}:/out"]
    command = ["podman", "run", *options, image, "sh", "-c", "touch /out/up; sleep 600"]
    code = f"from flows.container import _wait; _wait({command!r})"
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until((tmp_path / "up").exists)
    launcher.kill()
    launcher.wait()
    until(lambda: not is_running("pointsman-orphan"))


def is_running(name: str) -> bool:
    command = ["podman", "ps", "--format", "{{.Names}}"]
    return name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """Podman's socket, which speaks Docker's API."""
    if shutil.which("docker") is None:
        pytest.skip("the command `docker` is not installed")
    address = f"unix://{tmp_path}/docker.sock"
    service = subprocess.Popen(["podman", "system", "service", "--time=0", address])
    until((tmp_path / "docker.sock").exists)
    yield address
    service.terminate()
    service.wait()


def test_a_flow_runs_in_a_container_of_a_docker_pool_on_podmans_socket(engine: str, image: str, tmp_path: Path) -> None:
    """The worker speaks Docker's API to Podman; the flow and its stages run within, on the checkout that is mounted."""
    root = checkout(tmp_path / "checkout", image, "process")
    for name in ("infra", "dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore"):
        (root / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    for command in ("git init -q -b main", "git add -A", "git -c user.name=a -c user.email=a@b commit -qm x"):
        subprocess.run(command.split(), cwd=root, check=True)
    os.environ.update(SETTINGS | {"PREFECT_HOME": str(tmp_path / "prefect")})
    with standing(root, 4790, print) as stack:
        env = environment() | {"PYTHONPATH": str(root), "DOCKER_HOST": engine, "PREFECT_API_URL": stack.url}

        def run(*arguments: str) -> None:
            done = subprocess.run([sys.executable, *arguments], cwd=root, env=env, capture_output=True, text=True,
                                  check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

        run("-m", "flows.cli", "deploy", "--pool", "containers", "--type", "docker", "--limit", "1")
        run("-m", "prefect", "deployment", "run", "pipeline/pipeline", "--param", "stage=ingest")
        run("-m", "prefect", "worker", "start", "--pool", "containers", "--type", "docker", "--run-once")
        request = urllib.request.Request(
            f"{stack.url}/flow_runs/filter", b"{}", {"content-type": "application/json"}
        )  # fmt: skip
        with urllib.request.urlopen(request) as reply:
            (found,) = json.load(reply)
    assert (found["state_type"], found["name"].split()[0]) == ("COMPLETED", "smoke"), found["state"]["message"]
    assert MANIFEST in hashes(root, "ingest")


def test_dockers_client_runs_a_stage_too(engine: str, image: str, tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout", image, "docker")
    launch(root, "ingest", DOCKER_HOST=engine)
    assert MANIFEST in hashes(root, "ingest")
