"""The result of a retrain offered for review: a commit, a branch in the origin repository, a pull request."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from flows import dvc
from flows.forge import Forge, propose
from flows.report import read_metrics
from flows.work_folder import WorkFolder
from stages.shared.errors import ConfigurationError, PipelineError, TransientError
from stages.shared.files import read_yaml

REJECTED = ("[remote rejected]", "[rejected]")
AUTHOR = {"user.name": "Pointsman", "user.email": "pointsman@localhost"}


@dataclass(frozen=True)
class Offer:
    """What came of a retrain. Without a branch there was nothing new, and `note` says why."""

    branch: str | None = None
    commit: str | None = None
    remote: str | None = None
    """Of the checkout's git; None: the branch is in the checkout's own repository."""
    pull_request: str | None = None
    folder: str | None = None
    """The work folder, where it was kept."""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for Prefect."""
        return asdict(self)


def commit(work: WorkFolder, run: str) -> str | None:
    """Commit parameters, dvc.lock and metrics, and return the commit; None where nothing differs from the base.

    The trailer `Pointsman-Run` names `run`. A commit that a run before has made is returned as it is.
    """
    root = work.root
    stages = dvc.stage_names(root)
    paths = ["params.yaml", "dvc.lock", *(path for stage in stages for path in dvc.metrics_of(root, stage))]
    dvc.git_or_raise(root, "add", "--force", "--", *(path for path in paths if (root / path).exists()))
    if dvc.git_or_raise(root, "diff", "--cached", "--name-only"):
        lines = [title(work), "", *_set(work), f"Pointsman-Run: {run}"]
        settings = [word for key, value in _author(work.checkout).items() for word in ("-c", f"{key}={value}")]
        dvc.git_or_raise(root, *settings, "commit", "--quiet", "--no-verify", "--message", "\n".join(lines))
    head = dvc.git_or_raise(root, "rev-parse", "HEAD").strip()
    return None if head == work.base.commit else head


def title(work: WorkFolder) -> str:
    """For example `Retrain sandbox: the router's EM 0.848 -> 0.867`."""
    profile = read_yaml(work.root / "params.yaml")["profile_name"]
    after, before = _em(read_metrics(work.root).get("evaluate", {})), _em(metrics_before(work))
    if after is None:
        return f"Retrain {profile}"
    was = "" if before is None else f"{before:.3f} -> "
    return f"Retrain {profile}: the router's EM {was}{after:.3f}"


def metrics_before(work: WorkFolder) -> dict[str, Any]:
    """The evaluation that the base holds; empty where it holds none."""
    text = dvc.git(work.root, "show", f"{work.base.commit}:metrics/evaluate.json")
    found: dict[str, Any] = yaml.safe_load(text) if text else {}
    return found


def difference(work: WorkFolder) -> str:
    """What `pointsman diff BASE BRANCH` prints; where it refuses to compare, why, and what the runs share."""
    with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
        before = Path(scratch) / "before"
        try:
            dvc.export_run(work.root, work.base.commit, before)
        except ConfigurationError as error:
            return f"Nothing to compare with: {error}\n".replace(work.base.commit, work.base.name)
        done = _compare(work, before)
        if not done.returncode:
            return done.stdout
        refusal, forced = done.stderr.strip().removeprefix("pointsman: "), _compare(work, before, "--force")
        return f"> {refusal}\n\n{forced.stdout}" if not forced.returncode else f"No comparison: {refusal}\n"


def push(work: WorkFolder, commit: str) -> None:
    """Let the branch land in the origin repository: the checkout's remote, or the checkout's own where it has none.

    The checkout's git does it, with its own address and credentials; its files, index and branches stay as they are.
    Raises ConfigurationError when the remote rejects the branch, TransientError when it cannot be reached.
    """
    checkout, branch = work.checkout, f"refs/heads/{work.branch}"
    wanted = f"{branch}:{branch}" if work.base.remote is None else branch
    dvc.git_or_raise(checkout, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(work.root), wanted)
    if work.base.remote is None:
        return
    try:
        dvc.git_or_raise(checkout, "push", "--no-verify", "--quiet", work.base.remote, f"{commit}:{branch}")
    except PipelineError as error:
        kept = f"the commit is kept in {work.root}, and the same command pushes it again"
        if any(mark in str(error) for mark in REJECTED):
            raise ConfigurationError(f"{work.base.remote} rejects the branch {work.branch}; {kept}\n{error}") from error
        raise TransientError(f"{work.branch} cannot be pushed to {work.base.remote}; {kept}\n{error}") from error


def offer(work: WorkFolder, commit: str, forge: Forge | None) -> Offer:
    """Push the branch, and open a pull request where there is a forge. Raises as `push` and `propose` do."""
    push(work, commit)
    page = None
    if forge is not None:
        words = {"title": title(work), "body": difference(work)}
        page = propose(forge, branch=work.branch, base=work.base.branch, **words)
    return Offer(work.branch, commit, work.base.remote, page)


def _set(work: WorkFolder) -> list[str]:
    return [*(f"Set {key}: {value}" for key, value in work.settings.items()), ""] if work.settings else []


def _author(checkout: Path) -> dict[str, str]:
    return {key: (dvc.git(checkout, "config", key) or value).strip() for key, value in AUTHOR.items()}


def _em(evaluation: Mapping[str, Any]) -> float | None:
    em: float | None = evaluation.get("methods", {}).get("router", {}).get("average", {}).get("em")
    return em


def _compare(work: WorkFolder, before: Path, *options: str) -> subprocess.CompletedProcess[str]:
    names = ["--name-before", work.base.name, "--name-after", work.branch]
    folders = ["--", str(before), str(work.root)]
    command = [sys.executable, "-m", "stages.evaluate.diff", "--markdown", *options, *names, *folders]
    env = dvc.environment()
    return subprocess.run(command, cwd=work.checkout, env=env, capture_output=True, text=True, check=False)
