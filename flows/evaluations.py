"""Where a finished evaluation is: in a folder, in a git revision, or in what a release was made from."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import dvc
from flows.manage import manage
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.files import read_bytes

METRICS = "metrics/evaluate.json"
RELEASE = "release:"


def locate(name: str, scratch: Path) -> Path:
    """The folder of a run: the one named, or, written into `scratch`, what was kept of a revision or of a release.

    A release is a channel, a digest, its first digits or `latest`; `release:` before it says that it is one, where a
    folder or a revision has the same name. Raises ConfigurationError where there is no such thing.
    """
    if Path(name).is_dir() and not name.startswith(RELEASE):
        return Path(name)
    root = dvc.find_root(Path.cwd())
    if name.startswith(RELEASE) or not is_revision(root, name):
        return _released(root, name, scratch)
    dvc.export_run(root, name, scratch)
    return scratch


def is_revision(root: Path, name: str) -> bool:
    """Whether git knows a commit by that name."""
    return dvc.git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}") is not None


def _released(root: Path, name: str, scratch: Path) -> Path:
    """A release holds the metrics of its evaluation, not the episodes: the run with the very same metrics has those."""
    try:
        release = manage(root, "show", name.removeprefix(RELEASE))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{name!r} is neither a folder nor a git revision here, nor a release: {error}"
        ) from None
    wanted = release["files"][METRICS]["sha256"]
    if _digest(read_bytes(root / METRICS) if (root / METRICS).is_file() else b"") == wanted:
        return root
    revision = next((commit for commit in commits(root, METRICS) if _kept(root, commit) == wanted), None)
    if revision is None:
        raise ConfigurationError(
            f"{name} is release {release['digest'][:16]}, and no commit of any branch here holds the evaluation that "
            f"it was made from ({METRICS} with SHA-256 {wanted[:16]}…): fetch the branch that does, or give the "
            "folder of that run"
        )
    dvc.export_run(root, revision, scratch)
    return scratch


def commits(root: Path, path: str) -> list[str]:
    """Those of any branch that changed a file, the newest first."""
    return (dvc.git(root, "log", "--all", "--format=%H", "--", path) or "").split()


def _kept(root: Path, commit: str) -> str:
    return _digest((dvc.git(root, "show", f"{commit}:{METRICS}") or "").encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pooled(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Runs that differ in their seeds alone, by name, as one result: what `pointsman seeds --json` prints.

    Raises ConfigurationError where they differ in more, or one is no finished evaluation.
    """
    names = [word for name in folders for word in ("--name", name)]
    done = run_seeds([*names, "--json", "--", *map(str, folders.values())])
    if done.returncode:
        kind = ConfigurationError if done.returncode == ConfigurationError.exit_code else PipelineError
        raise kind(done.stderr.strip().removeprefix("pointsman: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_seeds(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The room that pools runs, in a process of its own."""
    command = [sys.executable, "-m", "stages.evaluate.seeds", *arguments]
    return subprocess.run(command, env=dvc.environment(), capture_output=True, text=True, check=False)
