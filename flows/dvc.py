"""DVC and git, by subprocess: what is current, what changed, and running one stage. Nothing else calls either."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from configobj import ConfigObj

from flows.dvc_errors import FULL, ROOM, check_kept, failure, refusal
from flows.process import environment, lines_of, running
from flows.reasons import reasons_of
from stages.shared.errors import BudgetError, ConfigurationError, PipelineError, TransientError
from stages.shared.files import read_yaml, write_text
from stages.shared.workspace import Workspace

Result = Literal["ran", "unchanged", "restored"]
WORKER = "pointsman"
REPLAYING = "evaluate"
"""The stage that asks candidates only what no run before it asked."""
CREDENTIALS = re.compile(r"(\w://)[^/@\s]+@")
LOCAL_REMOTE = re.compile(r"remote\.(.+)\.url=(/.+)")
HINTS = (
    "Generating lock file", "Updating lock file", "To track the changes with git", "\tgit add",
    "To enable auto staging", "\tdvc config core.autostage", "Use `dvc push`", "Data and pipelines are up to date",
)  # fmt: skip


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage would run, and why: one reason a change, none for a stage that is current."""

    stage: str
    reasons: tuple[str, ...]

    @property
    def stale(self) -> bool:
        """Whether running the pipeline would run this stage, as far as can be known before it runs."""
        return bool(self.reasons)


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that is a whole Pointsman repository.

    Raises ConfigurationError naming what is missing: dvc.yaml, git, .dvc.
    """
    root = next((folder for folder in (start, *start.parents) if (folder / "dvc.yaml").is_file()), None)
    if root is None:
        raise ConfigurationError(f"{start}: no dvc.yaml here or above; run pointsman inside its repository")
    if shutil.which("git") is None:
        raise ConfigurationError("git is not installed, and DVC needs it (Debian: apt-get install git)")
    if _git(root, "rev-parse", "--is-inside-work-tree").returncode:
        raise ConfigurationError(
            f"{root} is not a git repository, and DVC needs one; "
            "clone it instead of unpacking an archive, or run: git init && git add -A && git commit -m 'Start'"
        )
    if not (root / ".dvc").is_dir():
        raise ConfigurationError(f"{root}: no folder .dvc; run: {sys.executable} -m dvc init")
    return root


def revision(root: Path) -> str:
    """The commit that is checked out, 12 digits, with `+` when tracked files differ; "" before the first commit."""
    head = _git(root, "rev-parse", "--short=12", "HEAD").stdout.strip()
    return head + ("+" if head and _git(root, "status", "--porcelain", "-uno").stdout.strip() else "")


def commit(root: Path) -> str:
    """The commit that is checked out, all 40 digits, with `+` when its code or parameters differ; "" before the first.

    Metrics, dvc.lock and the like are what runs leave behind.
    """
    head = _git(root, "rev-parse", "HEAD").stdout.strip()
    changed = _git(root, "status", "--porcelain", "--", "stages", "flows", "infra", "params.yaml", "dvc.yaml").stdout
    return head + "+" * bool(head and changed.strip()) if len(head) == 40 else ""


def stage_names(root: Path) -> tuple[str, ...]:
    """The stages of dvc.yaml, in order. Raises ConfigurationError when it is not readable."""
    try:
        return tuple(read_yaml(root / "dvc.yaml")["stages"])
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"{root / 'dvc.yaml'} has no readable stages: {error}") from error


def params_of(root: Path, stage: str) -> tuple[str, ...]:
    """The sections of params.yaml that a stage depends on."""
    return tuple(_read_yaml(root / "dvc.yaml")["stages"][stage].get("params", []))


def metrics_of(root: Path, stage: str) -> tuple[str, ...]:
    """The metrics files that a stage writes: what git keeps of it, and DVC's cache does not."""
    found = _read_yaml(root / "dvc.yaml")["stages"][stage]
    kept = [entry for entry in found.get("outs", []) if isinstance(entry, dict)]
    return tuple(_paths([*kept, *found.get("metrics", [])]))


def status(root: Path) -> tuple[StageStatus, ...]:
    """Every stage in order, with why it would run.

    Raises ConflictError when DVC is busy, ConfigurationError when it refuses.
    """
    names = stage_names(root)
    changes = json.loads(call(root, "status", "--json", *names))
    lock, params = _read_yaml(root / "dvc.lock").get("stages", {}), _read_yaml(root / "params.yaml")
    return tuple(StageStatus(name, reasons_of(changes.get(name, []), lock.get(name), params)) for name in names)


def plan(root: Path, *, fresh: bool = False) -> tuple[StageStatus, ...]:
    """As `status`, and a current stage downstream of one that runs is stale too, for that reason.

    `fresh`: the evaluation is to be made with new replies, current or not.
    """
    upstream = {name: _needs(root, name) for name in stage_names(root)}
    planned: dict[str, StageStatus] = {}
    for item in status(root):
        first = [name for name in upstream[item.stage] if planned[name].stale]
        wanted = ("its candidates are to be asked again",) if fresh and item.stage == REPLAYING else ()
        later = tuple(f"{name} runs first, and may change what it reads" for name in first)
        reasons = item.reasons or wanted or later
        planned[item.stage] = StageStatus(item.stage, reasons)
    return tuple(planned.values())


def repro(
    root: Path,
    stage: str,
    *,
    force: bool = False,
    pull: bool = False,
    extra: Mapping[str, str] = MappingProxyType({}),
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    tick_s: float = 0.5,
) -> Result:
    """Bring one stage up to date and say how.

    `pull` looks for what is missing in DVC's remote before the stage runs; `extra` is put into its environment. Lines
    of output go to `on_line`; `on_tick` is called at least every `tick_s` seconds. However this ends, no process of the
    stage is left. Raises the PipelineError that the stage left behind, ConflictError when another run holds the stage,
    and PipelineError with the last lines of output when the stage left no message.
    """
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    command = [*_dvc(), "repro", "--single-item", *options, stage]
    lines = attend(root, stage, command, extra=extra, on_line=on_line, on_tick=on_tick, tick_s=tick_s)
    check_kept(stage, lines)
    return _result(stage, lines)


def attend(
    root: Path,
    stage: str,
    command: Sequence[str],
    *,
    extra: Mapping[str, str] = MappingProxyType({}),
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    tick_s: float = 0.5,
) -> list[str]:
    """Run what runs a stage, and return its lines; `repro` says what it raises, and what the callbacks get."""
    workspace = Workspace(root)
    workspace.errors(stage).unlink(missing_ok=True)
    lines: list[str] = []
    with running(command, root, extra) as process:
        for line in lines_of(process, tick_s):
            on_tick()
            if line and not line.startswith(HINTS):
                lines.append(line)
                on_line(line)
        process.wait()
    on_tick()
    if process.returncode:
        raise failure(workspace, stage, lines)
    return lines


def call(root: Path, *arguments: str) -> str:
    """What a DVC command prints. Raises ConflictError when DVC is busy, ConfigurationError when it refuses."""
    done = subprocess.run(
        [*_dvc(), *arguments], cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise refusal(root, arguments, done)
    return done.stdout


def share(root: Path, clone: Path) -> bool:
    """Let a clone use a repository's cache and remotes; whether one of those is the default.

    DVC keeps both in `.dvc/config` and `.dvc/config.local`, relative to the file, and the second is not for git: it is
    copied, and what lies on this machine is written into it as absolute paths: here, since `dvc config` takes a second.
    """
    found = call(root, "config", "--list").splitlines()
    local, own = (place / ".dvc" / "config.local" for place in (root, clone))
    if local.is_file():
        shutil.copy(local, own)
    caches = [line.removeprefix("cache.dir=") for line in found if line.startswith("cache.dir=")]
    config = ConfigObj(str(own), encoding="utf-8")
    config.setdefault("cache", {})["dir"] = caches[-1] if caches else str(root / ".dvc" / "cache")
    for match in filter(None, map(LOCAL_REMOTE.fullmatch, found)):
        config.setdefault(f'remote "{match[1]}"', {})["url"] = match[2]
    config.write()
    return any(line.startswith("core.remote=") for line in found)


def restore(root: Path, *, pull: bool) -> None:
    """Put the outputs that dvc.lock names into the folder, as far as they are to be had; `pull` asks the remote too.

    Raises TransientError when the remote does not give them.
    """
    if pull:
        _transfer(root, "pull", "--allow-missing", "--force")
    else:
        call(root, "checkout", "--allow-missing", "--force")


def push(root: Path) -> None:
    """Copy what dvc.lock and the run cache name to DVC's remote. Raises TransientError when that fails."""
    _transfer(root, "push", "--run-cache")


def git(root: Path, *arguments: str) -> str | None:
    """What a git command prints, None when it fails."""
    done = _git(root, *arguments)
    return done.stdout if done.returncode == 0 else None


def git_or_raise(root: Path, *arguments: str, extra: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a git command prints; it never asks for a password. Raises PipelineError with git's own words."""
    env = environment() | {"GIT_TERMINAL_PROMPT": "0"} | dict(extra)
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        said = CREDENTIALS.sub(r"\1", done.stderr.strip() or done.stdout.strip())
        if any(mark in said for mark in FULL):
            raise BudgetError(f"no disk space left for git; {ROOM}\n{said}")
        raise PipelineError(said)
    return done.stdout


def export_run(root: Path, revision: str, folder: Path) -> None:
    """Write what a revision kept of a finished run into a folder: params.yaml, metrics, artifacts/evaluate.

    Raises ConfigurationError when there is no such revision, or DVC's cache no longer holds its evaluation.
    """
    if _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").returncode:
        raise ConfigurationError(f"{revision!r} is neither a folder nor a git revision here")
    for name in ("params.yaml", "dvc.lock", "metrics/ingest.json"):
        shown = _git(root, "show", f"{revision}:{name}")
        if shown.returncode == 0:
            write_text(folder / name, shown.stdout)
    out = folder / "artifacts" / "evaluate"
    out.parent.mkdir(parents=True)
    get = [*_dvc(), "get", "--rev", revision, "--out", str(out), str(root), "artifacts/evaluate"]
    done = subprocess.run(get, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(line[7:] for line in done.stderr.splitlines() if line.startswith("ERROR: "))
        raise ConfigurationError(
            f"{revision}: its evaluation is not to be had ({said}); it needs a committed dvc.lock, and artifacts in "
            "DVC's cache: check the revision out elsewhere, run `pointsman run` there, and give that folder"
        )


def _dvc() -> list[str]:
    return [sys.executable, "-m", "dvc"]


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path) or {}
    except FileNotFoundError:
        return {}


def _paths(entries: Sequence[str | dict[str, Any]]) -> list[str]:
    """Of what dvc.yaml lists by its path alone, or by path and options."""
    return [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]


def _needs(root: Path, stage: str) -> list[str]:
    stages = _read_yaml(root / "dvc.yaml")["stages"]
    made_by = {out: name for name, spec in stages.items() for out in _paths(spec.get("outs", []))}
    return [made_by[dep] for dep in stages[stage].get("deps", []) if dep in made_by]


def _transfer(root: Path, *arguments: str) -> None:
    try:
        call(root, *arguments)
    except ConfigurationError as error:
        raise TransientError(f"`dvc {arguments[0]}` failed; is DVC's remote there? Try again.\n{error}") from error


@contextmanager
def work_off(root: Path, extra: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The worker of DVC's queue, in the foreground: one experiment at a time, until none is left or the block ends.

    `dvc queue start` would start the same command as a daemon, which outlives whoever started it. `extra` is put into
    the environment of the experiments.
    """
    with running([*_dvc(), "exp", "queue-worker", f"{WORKER}@localhost"], root, extra) as process:
        yield process


def _result(stage: str, lines: Sequence[str]) -> Result:
    if f"Stage '{stage}' is cached - skipping run, checking out outputs" in lines or _was_pulled(stage, lines):
        return "restored"
    return "unchanged" if f"Stage '{stage}' didn't change, skipping" in lines else "ran"


def _was_pulled(stage: str, lines: Sequence[str]) -> bool:
    started = any(line.startswith(f"Running stage '{stage}'") for line in lines)
    return not started and any(line.startswith("Pulling data for") for line in lines)
