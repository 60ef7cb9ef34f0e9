"""One trainer a folder, and a dead one's processes and folder are cleared by the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.shared.errors import ConflictError
from stages.train.ppo.tenure import ATTEMPT, clear, tenure

HOLD = """
import subprocess, sys, time
from pathlib import Path
from stages.train.ppo.tenure import tenure
with tenure(Path(sys.argv[1])) as held:
    idle = [sys.executable, "-c", "import os, time; os.setpgid(0, 0); time.sleep(60)"]
    child = [sys.executable, "-c", f"import subprocess, time; subprocess.Popen({idle!r}); time.sleep(60)"]
    leader = subprocess.Popen(child, start_new_session=True)
    held.started(leader.pid)
    (held.ray / "socket").write_text("")
    print(leader.pid, held.ray, flush=True)
    time.sleep(60)
"""


def in_session(leader: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (OSError, psutil.Error):
            continue
    return found


def test_a_killed_trainer_leaves_nothing_to_the_next_and_a_living_one_keeps_it_out(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    leader, ray = holder.stdout.readline().split()
    with pytest.raises(ConflictError, match="another process is training"), tenure(tmp_path):
        pass
    deadline = time.monotonic() + 20
    while len(in_session(int(leader))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(in_session(int(leader))) == 2
    os.kill(holder.pid, signal.SIGKILL)
    os.kill(int(leader), signal.SIGKILL)
    holder.wait()
    with tenure(tmp_path) as held:
        assert in_session(int(leader)) == []
        assert not Path(ray).exists()
        assert held.ray.exists()
    assert not held.ray.exists()
    assert not (tmp_path / ATTEMPT).exists()


@pytest.mark.parametrize("change", [{"born": 1.0}, {"boot": 1.0}])
def test_a_process_that_was_given_the_number_later_is_left_alone(tmp_path: Path, change: dict[str, float]) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        born = psutil.Process(other.pid).create_time()
        entry = {"session": other.pid, "born": born, "boot": psutil.boot_time(), "ray": str(tmp_path / "ray"), **change}
        (tmp_path / ATTEMPT).write_text(json.dumps(entry))
        clear(tmp_path)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
