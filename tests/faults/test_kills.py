"""A retrain on a real server and worker, from its schedule to a branch, killed with SIGKILL in every stage.

The profile `smoke`, all five real stages, `pointsman up`. Once undisturbed; then once for each of the worker, the
stage's own process and Prefect's server, which is killed in every stage in turn and the run retried, until the branch
is there; once for each disk that can be full; once under a clock that leaps. Each must come to the same hashes as the
undisturbed one, with no call settled twice, and leave no process.

Minutes each: `make test-faults`, or POINTSMAN_TEST_FAULTS=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from flows.stack import belonging
from tests.conftest import two_ports
from tests.faults.checkout import ENDED, STAGES, Checkout, ended, until

SERVER = ["server", "prefect.server.api.server:create_app"]
SMALL = {".pointsman/small": "8m", ".dvc/cache": "600k", "store": "200k"}
"""Folders of the checkout that are small disks of their own: of work, of DVC's cache, of releases."""
REJECTING = "#!/bin/sh\necho 'retrains are closed today' >&2\nexit 1\n"
HOURS = {"profile": -2, "train": 26, "evaluate": -50}
"""From this machine's time, from a stage on."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_FAULTS"), reason="takes minutes: make test-faults"),
]


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


class Clock:
    """That of the processes which are lent it, by a library that is loaded before the C library."""

    def __init__(self, folder: Path) -> None:
        self.library, self.file = folder / "clock.so", folder / "clock"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(self.library), str(source), "-ldl"], check=True)
        self.file.write_bytes(bytes(8))

    @property
    def lent(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "CLOCK_OFF_BY": str(self.file)}

    def leap(self, hours: int) -> None:
        """To so many hours from this machine's time. Written in place: it is mapped into memory."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", 3600 * hours))


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here for the clock")
def test_a_clock_that_leaps_to_and_fro_while_a_retrain_runs_and_is_retried_changes_nothing(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Of server, worker and stages alike; a stage that is killed in another hour than it began in goes on."""
    clock = Clock(tmp_path)
    found = Checkout(tmp_path / "checkout", lent=clock.lent)
    up = found.up()
    try:
        run = found.ask()
        for stage, hours in HOURS.items():
            until(lambda stage=stage: bool(found.running(f"stages.{stage}")) or found.state(run) in ENDED, 600)  # type: ignore[misc]
            clock.leap(hours)
            kill(found, run, "stage", stage)
            assert ended(found, run) == "FAILED", found.message(run)
            found.retry(run)
        assert ended(found, run) == "COMPLETED", found.message(run)
        came_to_the_same(undisturbed, found)
    finally:
        found.pointsman("down")
        up.wait(60)


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
    found.port = two_ports()  # another took the former one, long ago as that was
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
