"""A retrain on a real server and worker, from its schedule to a branch, killed with SIGKILL in every stage.

The profile `smoke`, all five real stages, `pointsman up`. Once undisturbed; then once for each of the worker, the
stage's own process and Prefect's server, which is killed in every stage in turn and the run retried, until the branch
is there; and once for each disk that can be full. Each must come to the same hashes as the undisturbed one, with no
call settled twice, and leave no process.

Minutes each: `make test-faults`, or POINTSMAN_TEST_FAULTS=1.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows.process import environment
from flows.stack import belonging
from stages.shared.files import sha256
from tests.conftest import two_ports

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("flows", "stages", "infra", "dvc.yaml", "pyproject.toml", ".dvc/config", ".dvcignore", ".gitignore")
SERVER = ["server", "prefect.server.api.server:create_app"]
STAGES = ("ingest", "profile", "train", "evaluate", "publish")
COMPARED = ("artifacts/ingest", "artifacts/profile", "artifacts/train/policy", "artifacts/evaluate")
CLOCKED = {"README.md", "metrics/train.json", "provenance.json", "sbom.cdx.json"}
"""Files of a release that say how long the training took, or when, or from which commit."""
SMALL = {".pointsman/small": "8m", ".dvc/cache": "600k", "store": "200k"}
"""Folders of the checkout that are small disks of their own: of work, of DVC's cache, of releases."""
REJECTING = "#!/bin/sh\necho 'retrains are closed today' >&2\nexit 1\n"
CRON = {"cron": "* * * * *", "timezone": "Pacific/Kiritimati"}
"""Every minute; fourteen hours from UTC, so that the day is another."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="takes minutes: make test-faults"),
]


class Checkout:
    """A checkout with `pointsman up` in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        params = yaml.safe_load((ROOT / "infra/profiles/smoke.yaml").read_text())
        params["publish"] = {"folder": "store"}
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org"), ("commit.gpgsign", "false")):
            self.git("config", key, value)
        self.git("add", "-A")
        self.git("commit", "-qm", "A pipeline")
        self.port = two_ports()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.env = environment() | {"PYTHONPATH": str(root), "COLUMNS": "200"}
        self.env.pop("PREFECT_API_URL", None)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def pointsman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)

    def up(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", "up", "--port", str(self.port)]
        log = (self.root / "up.log").open("w")
        process = subprocess.Popen(command, cwd=self.root, env=self.env, stdout=log, stderr=log, text=True)
        until(lambda: "Ctrl-C, or" in self.log("up.log") or process.poll() is not None, 180)
        assert process.poll() is None, self.log("up.log")
        return process

    def log(self, name: str) -> str:
        """The end of a log."""
        return (self.root / name).read_text()[-6000:]

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data, {"content-type": "application/json"}, method=method
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    text = reply.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:  # 503: its database is locked; Prefect's own client tries again too
                if error.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def runs(self) -> list[dict[str, Any]]:
        """Of retrain, the newest first; none while the server is away."""
        with suppress(OSError):
            found: list[dict[str, Any]] = self.call(
                "/flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}, "sort": "START_TIME_DESC"}
            )
            return found
        return []

    def state(self, run: str) -> str:
        return next((found["state_type"] for found in self.runs() if found["id"] == run), "")

    def message(self, run: str) -> str:
        """What the run's state says."""
        return next((str(found["state"]["message"]) for found in self.runs() if found["id"] == run), "")

    def schedule(self) -> str:
        """Let a schedule start a retrain, and switch it off once it has; the run's id."""
        deployment = self.call("/deployments/name/retrain/retrain")["id"]
        before = {run["id"] for run in self.runs()}
        (made,) = self.call(f"/deployments/{deployment}/schedules", [{"active": True, "schedule": CRON}])

        def begun() -> list[str]:
            """Runs of the schedule that are at work, or have been."""
            states = ("RUNNING", *ENDED)
            return [run["id"] for run in self.runs() if run["id"] not in before and run["state_type"] in states]

        until(lambda: bool(begun()), 180)
        (run,) = begun()
        self.call(f"/deployments/{deployment}/schedules/{made['id']}", method="DELETE")
        return run

    def ask(self, **parameters: Any) -> str:
        """Start a retrain; the run's id."""
        deployment = self.call("/deployments/name/retrain/retrain")["id"]
        return str(self.call(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    def retry(self, run: str) -> None:
        env = self.env | {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self.root / ".pointsman/prefect")}
        command = [sys.executable, "-m", "prefect", "--no-prompt", "flow-run", "retry", run]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def running(self, *words: str) -> list[psutil.Process]:
        """Processes of this checkout whose command has a word."""
        return [member for member, command in belonging(self.root).items() if {*words} & {*command}]

    def branches(self, root: Path | None = None) -> list[str]:
        """Of retrains, here or in a remote."""
        listed = ["for-each-ref", "--format=%(refname:short)", "refs/heads/retrain"]
        return self.git(*(["--git-dir", str(root)] if root else []), *listed).split()

    def hashes(self, branch: str) -> dict[str, str]:
        """What the branch's stages made."""
        place = self.root.with_name(f"{self.root.name}-result")
        subprocess.run(["git", "clone", "-q", "-b", branch, str(self.root), str(place)], check=True)
        (place / ".dvc/config.local").write_text(f"[cache]\n    dir = {self.root / '.dvc/cache'}\n")
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "-q"], cwd=place, env=self.env, check=True)
        files = [path for name in COMPARED for path in sorted((place / name).rglob("*")) if path.is_file()]
        release = json.loads((place / "artifacts/publish/release.json").read_text())["files"]
        found = {path.relative_to(place).as_posix(): sha256(path) for path in files}
        return found | {f"release/{name}": digest for name, digest in release.items() if name not in CLOCKED}

    def settled(self) -> Counter[str]:
        """How often each paid call of each stage was settled, by the ledgers."""
        found: Counter[str] = Counter()
        for path in self.root.rglob("ledger/*.jsonl"):
            calls = {}
            for line in path.read_text().splitlines():
                row = json.loads(line)
                if "begin" in row:
                    calls[row["begin"]] = row["call"]
                elif row.get("cost"):
                    found[f"{path.stem.partition('-')[0]} {calls[row['end']]}"] += 1
        return found


def until(holds: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.3)


def ended(checkout: Checkout, run: str) -> str:
    until(lambda: checkout.state(run) in ENDED, 900)
    return checkout.state(run)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """Ended by `pointsman down`, after which no process of it is left."""
    found = Checkout(tmp_path / "checkout")
    up = found.up()
    yield found
    done = found.pointsman("down")
    assert done.returncode == 0, done.stderr
    assert up.wait(60) == 0
    assert belonging(found.root) == {}
    assert [member for member in psutil.process_iter(["cwd"]) if str(found.root) in (member.info["cwd"] or "")] == []


@dataclass(frozen=True)
class Undisturbed:
    """A checkout whose retrain nobody disturbed, and the hashes that it came to."""

    checkout: Checkout
    branch: str
    hashes: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Started by its schedule; a second one meanwhile is cancelled, one afterwards by schedule finds nothing new."""
    found = Checkout(tmp_path_factory.mktemp("undisturbed") / "checkout")
    up = found.up()
    try:
        run = found.schedule()
        until(lambda: bool(found.running(*(f"stages.{stage}" for stage in STAGES))))
        second = found.ask()
        assert ended(found, second) == "CANCELLED"
        assert ended(found, run) == "COMPLETED", found.log(".pointsman/logs/worker.log")
        (branch,) = found.branches()
        third = found.schedule()
        assert ended(found, third) == "COMPLETED"
        assert found.branches() == [branch]
        assert "Nothing new, no branch: the same commit" in found.log(".pointsman/logs/worker.log")
        assert found.git("log", "-1", "--format=%(trailers:key=Pointsman-Run,valueonly)", branch).endswith(f"({run})")
        return Undisturbed(found, branch, found.hashes(branch))
    finally:
        found.pointsman("down")
        up.wait(60)


def kill(checkout: Checkout, run: str, victim: str, stage: str) -> None:
    """SIGKILL while the stage is at work."""
    until(lambda: bool(checkout.running(f"stages.{stage}")) or checkout.state(run) in ENDED, 600)
    assert checkout.running(f"stages.{stage}"), (stage, checkout.message(run))
    time.sleep(1.5)
    words = {"worker": ["worker"], "stage": [f"stages.{stage}"], "server": SERVER}[victim]
    for member in checkout.running(*words):
        with suppress(psutil.Error):
            member.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("victim", ["worker", "stage", "server"])
def test_killed_in_every_stage_and_retried_it_comes_to_the_same(
    undisturbed: Undisturbed, checkout: Checkout, victim: str
) -> None:
    run = checkout.ask()
    for stage in STAGES:
        kill(checkout, run, victim, stage)
        if victim == "server":
            continue  # the run lives on, and the server is started again
        state = ended(checkout, run)
        assert state in ("FAILED", "CRASHED"), (stage, state)
        assert checkout.branches() == []
        until(lambda: not checkout.running(*(f"stages.{each}" for each in STAGES)), 60)
        checkout.retry(run)
    assert ended(checkout, run) == "COMPLETED", checkout.message(run)
    came_to_the_same(undisturbed, checkout)


def came_to_the_same(undisturbed: Undisturbed, checkout: Checkout) -> None:
    """One branch with the hashes of the undisturbed one, and no call settled twice."""
    (branch,) = checkout.branches()
    assert checkout.hashes(branch) == undisturbed.hashes
    assert [call for call, times in checkout.settled().items() if times > 1] == []


@pytest.mark.parametrize("place", SMALL)
def test_a_retrain_that_fills_the_disk_goes_on_when_there_is_room(
    undisturbed: Undisturbed, checkout: Checkout, place: str
) -> None:
    small = checkout.root / place
    small.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL[place]}", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        run = checkout.ask(folder=str(small)) if place == ".pointsman/small" else checkout.ask()
        assert ended(checkout, run) == "FAILED"
        assert "no disk space left" in checkout.message(run)
        assert "make room" in checkout.message(run) or "free some" in checkout.message(run)
        assert checkout.branches() == []
        assert [path for path in small.rglob("*") if path.suffix in (".tmp", ".part")] == []
        subprocess.run(["mount", "-o", "remount,size=2g", str(small)], check=True)
        checkout.retry(run)
        assert ended(checkout, run) == "COMPLETED", checkout.message(run)
        came_to_the_same(undisturbed, checkout)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_push_that_the_remote_rejects_is_made_again_by_a_retry(undisturbed: Undisturbed) -> None:
    found = undisturbed.checkout
    origin = found.root.with_name("origin.git")
    params = yaml.safe_load((found.root / "params.yaml").read_text())
    params["publish"] = {"folder": "elsewhere"}
    (found.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    found.git("commit", "-qam", "Publish elsewhere")
    subprocess.run(["git", "clone", "-q", "--bare", str(found.root), str(origin)], check=True)
    found.git("remote", "add", "origin", str(origin))
    hook = origin / "hooks" / "pre-receive"
    hook.write_text(REJECTING)
    hook.chmod(0o755)
    up = found.up()
    try:
        run = found.ask()
        assert ended(found, run) == "FAILED"
        assert "origin rejects the branch retrain/" in found.message(run)
        assert "retrains are closed today" in found.message(run)
        hook.unlink()
        found.retry(run)
        assert ended(found, run) == "COMPLETED", found.message(run)
        assert len({*found.branches(origin)} - {undisturbed.branch}) == 1
    finally:
        found.pointsman("down")
        assert up.wait(60) == 0


@pytest.mark.parametrize("way", ["down", "up"])
def test_what_a_killed_up_left_is_ended(tmp_path: Path, way: str) -> None:
    found = Checkout(tmp_path / "checkout")
    up = found.up()
    found.ask()
    until(lambda: bool(found.running("stages.ingest", "stages.profile")))
    before = set(belonging(found.root))
    up.kill()
    up.wait()
    if way == "down":
        done = found.pointsman("down")
        assert done.returncode == 0, done.stderr
        assert belonging(found.root) == {}
    again = found.up()
    assert before.isdisjoint(belonging(found.root))
    assert "To be retried" in found.log("up.log")
    found.pointsman("down")
    assert again.wait(60) == 0
    assert belonging(found.root) == {}
