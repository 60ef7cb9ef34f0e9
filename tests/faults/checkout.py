"""A checkout of the profile `smoke` with `pointsman up` in it: a real server, a real worker, all five real stages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import yaml

from flows.process import environment
from flows.stack import belonging
from stages.shared.files import sha256
from tests.conftest import two_ports

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("flows", "stages", "infra", "dvc.yaml", "pyproject.toml", ".dvc/config", ".dvcignore", ".gitignore")
STAGES = ("ingest", "profile", "train", "evaluate", "publish")
COMPARED = ("artifacts/ingest", "artifacts/profile", "artifacts/train/policy", "artifacts/evaluate")
CLOCKED = {"README.md", "metrics/train.json", "provenance.json", "sbom.cdx.json"}
"""Files of a release that say how long the training took, or when, or from which commit."""
CRON = {"cron": "* * * * *", "timezone": "Pacific/Kiritimati"}
"""Every minute; fourteen hours from UTC, so that the day is another."""
NONE: Mapping[str, Any] = MappingProxyType({})
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def smoke() -> dict[str, Any]:
    """The profile's parameters."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "infra/profiles/smoke.yaml").read_text())
    return found


class Checkout:
    """A checkout with `pointsman up` in it."""

    def __init__(
        self,
        root: Path,
        changed: Mapping[str, Any] = MappingProxyType({}),
        lent: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`changed` are other sections of the parameters, `lent` is more of an environment for everything in it."""
        self.root = root
        for name in COPIED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        params = smoke()
        params |= {"publish": {"folder": "store"}, **changed}
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org"), ("commit.gpgsign", "false")):
            self.git("config", key, value)
        self.git("add", "-A")
        self.git("commit", "-qm", "A pipeline")
        self.port = two_ports()
        self.env = environment() | {"PYTHONPATH": str(root), "COLUMNS": "200"} | dict(lent)
        self.env.pop("PREFECT_API_URL", None)

    @property
    def url(self) -> str:
        """Of the server's API."""
        return f"http://127.0.0.1:{self.port}/api"

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
        until(lambda: "Ctrl-C, or" in self.log("up.log") or process.poll() is not None, 330)
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
