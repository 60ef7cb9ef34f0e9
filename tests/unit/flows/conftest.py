"""A small repository with real git and real DVC, whose stages do what a test tells them to; a real Prefect server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.dvc import environment
from flows.server import SETTINGS
from flows.stack import standing
from tests.conftest import two_ports

ROOT = Path(__file__).resolve().parents[3]
FIRST = """
from stages.shared.entry import run_stage

def main(params, workspace):
    folder = workspace.artifacts("first")
    folder.mkdir(parents=True)
    (folder / "text").write_text(str(params.ingest.sizes.train))

if __name__ == "__main__":
    raise SystemExit(run_stage("first", main))
"""
SECOND = """
import shutil
from pathlib import Path
shutil.copytree("artifacts/first", "artifacts/second")
"""


@dataclass(frozen=True)
class Repository:
    """A pipeline of two stages, first and second."""

    root: Path

    def write(self, stage: str, code: str) -> None:
        """Replace what a stage does."""
        (self.root / f"{stage}.py").write_text(code)

    def set_train_size(self, size: int) -> None:
        """Change one parameter that `first` reads."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["ingest"]["sizes"]["train"] = size
        path.write_text(yaml.safe_dump(params))

    def pointsman(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this repository."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        env = environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | variables
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def never_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository to copy: to initialise one takes longer than most tests."""
    root = tmp_path_factory.mktemp("never-run")
    stages = {
        "first": {
            "cmd": "python first.py",
            "deps": ["first.py"],
            "params": ["ingest"],
            "outs": ["artifacts/first"],
        },
        "second": {
            "cmd": "python second.py",
            "deps": ["second.py", "artifacts/first"],
            "outs": ["artifacts/second"],
        },
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "params.yaml").write_bytes((ROOT / "infra" / "profiles" / "smoke.yaml").read_bytes())
    (root / ".gitignore").write_text("artifacts/\n.pointsman/\n")
    for command in ("git init -q", f"{sys.executable} -m dvc init -q"):
        subprocess.run(command.split(), cwd=root, check=True)
    Repository(root).write("first", FIRST)
    Repository(root).write("second", SECOND)
    return root


@pytest.fixture
def repository(never_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A fresh one, never run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(never_run, tmp_path, dirs_exist_ok=True)
    return Repository(tmp_path)


class PrefectServer:
    """A server on loopback, and the environment of its clients."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.env = environment() | SETTINGS | {
            "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def call(self, path: str, body: Any) -> Any:
        """POST `body` and read the reply."""
        data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:  # 503: its database is locked; Prefect's own client tries again too
                if error.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def deployment(self, flow: str = "retrain") -> Any:
        """Of a flow, as the server knows it."""
        with urllib.request.urlopen(f"{self.url}/deployments/name/{flow}/{flow}", timeout=60) as reply:
            return json.load(reply)

    def run(self, *arguments: str, cwd: Path = ROOT, **env: str) -> str:
        """What a Python process of this environment prints."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=cwd, env=self.env | env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def work(self, checkout: Path, **env: str) -> None:
        """Let a worker of the pool do what is due, in a checkout."""
        command = "-m", "prefect", "worker", "start", "--pool", "pointsman", "--run-once"
        self.run(*command, cwd=checkout.parent, POINTSMAN_CHECKOUT=str(checkout), **env)

    def flow_run(self, name: str) -> Any:
        """A flow run, by its id."""
        (found,) = self.call("/flow_runs/filter", {"flow_runs": {"id": {"any_": [name]}}})
        return found


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One for all tests: to start it takes longer than most of them."""
    root, found = tmp_path_factory.mktemp("prefect"), dict(os.environ)
    os.environ.update(SETTINGS | {"PREFECT_HOME": str(root)})
    with ExitStack() as stack:
        try:
            up = stack.enter_context(standing(root, two_ports(), print))
        finally:
            os.environ.clear()
            os.environ.update(found)
        yield PrefectServer(up.url, root)


@pytest.fixture
def prefect_server(running_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> PrefectServer:
    """The one that flows of this test find in their environment."""
    for name in ("PREFECT_HOME", "PREFECT_API_URL", *SETTINGS):
        monkeypatch.setenv(name, running_server.env[name])
    return running_server


@pytest.fixture(scope="session")
def deployed_server(running_server: PrefectServer) -> PrefectServer:
    """With the work pool, and deployed from infra/prefect.yaml, by the command."""
    deploy(running_server)
    return running_server


def deploy(server: PrefectServer, *options: str) -> str:
    """What `pointsman deploy` prints."""
    return server.run("-m", "flows.cli", "deploy", *options)


@dataclass(frozen=True)
class Request:
    """What a forge was sent."""

    method: str
    path: str
    headers: Any
    body: Any


class LoopbackForge:
    """Answers requests with `replies`, (status, JSON) each, in order, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: list[tuple[int, Any]] = []
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(text) if text else None
                forge.requests.append(Request(self.command, self.path, self.headers, body))
                status, reply = forge.replies.pop(0)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(reply).encode())

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def forge() -> Iterator[LoopbackForge]:
    """A forge's API on loopback."""
    found = LoopbackForge()
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()
