"""Where a retrain works: a clone of its own below `.pointsman/retrains/`, which outlives a failure to be gone on with.

    .pointsman/retrains/BASE-DIGEST/    one for each base branch and set of parameters
      retrain.json                      what it is for; written last, when the clone is ready
      repository/                       the clone, its logs and errors under .pointsman/ there
      runs/                             what stages resume from, kept even where the base moves on

The clone shares DVC's cache with the checkout, which stays as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import dvc
from flows.base import BRANCHES, Base, offered
from flows.drift import RENEWED
from flows.settings import changed, write_settings
from stages.shared.entry import FRESH
from stages.shared.errors import ConfigurationError, ConflictError
from stages.shared.files import read_json, read_yaml, write_json
from stages.shared.workspace import REPLIES, RUNS, Workspace

STORE_HOME = "POINTSMAN_STORE_HOME"
STATE = "retrain.json"
LONGEST_NAME = 255


@dataclass(frozen=True)
class WorkFolder:
    """A clone to retrain in, and what it is for."""

    checkout: Path
    folder: Path
    base: Base
    settings: Mapping[str, Any]
    branch: str
    """What the result will be called."""
    has_storage: bool
    """Whether DVC has a default remote to pull from and to push to."""

    @property
    def root(self) -> Path:
        """The clone."""
        return self.folder / "repository"

    @property
    def environment(self) -> dict[str, str]:
        """Of its stages: they resume from beside the clone, and share the replies and the store of the checkout.

        Replies from before candidates drifted are not theirs any more.
        """
        own = Workspace(self.checkout)
        fresh = {FRESH: str(self.settings[RENEWED])} if RENEWED in self.settings else {}
        shared = {REPLIES: str(own.replies.absolute()), STORE_HOME: str(own.state)}
        return {RUNS: str(self.folder / "runs"), **shared, **fresh}

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder)

    def finish(self) -> None:
        """Keep it, with nothing left to go on with."""
        write_json(self.folder / STATE, _state(self) | {"is_finished": True})


@contextmanager
def sole(checkout: Path, who: str) -> Iterator[None]:
    """Be the one retrain of a checkout. Raises ConflictError naming who is; the lock ends with its process."""
    path = Workspace(checkout).state / "retrain.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise ConflictError(
                f"another retrain of this checkout is at work: {handle.read() or 'it has just begun'}; wait for it to "
                "end, then give the same command again"
            ) from error
        handle.truncate(0)
        handle.write(f"{who} (process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC)")
        handle.flush()
        yield


def find_folder(checkout: Path, given: str, base: Base, settings: Mapping[str, Any]) -> Path:
    """Where a retrain of a branch with these parameters works; the same when the branch has moved on.

    `given` is where work folders go, seen from the checkout; "" takes `.pointsman/retrains`.
    """
    place = checkout / given if given else Workspace(checkout).state / "retrains"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", base.name).strip("-.")[:60]
    return place / f"{name}-{_digest([base.name, settings])}"


def known_offer(checkout: Path, folder: Path, base: Base, settings: Mapping[str, Any]) -> str | None:
    """The branch that offers this commit with these parameters already; None where work is left to do.

    Raises TransientError when the remote does not answer.
    """
    known = _read(folder, base, settings)
    if known is not None and not known["is_finished"]:
        return None
    return offered(checkout, base, _short_id(base, settings))


def rehearse(checkout: Path, folder: Path, base: Base, settings: Mapping[str, Any]) -> tuple[dvc.StageStatus, ...]:
    """What a retrain would run, and why. Raises as `sole` and `open_folder` do; leaves nothing behind."""
    with sole(checkout, "a dry run"):
        if _read(folder, base, settings) is not None:
            return dvc.plan(open_folder(checkout, folder, base, settings).root)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dry-run-", dir=folder.parent) as scratch:
            return dvc.plan(open_folder(checkout, Path(scratch), base, settings).root)


def open_folder(checkout: Path, folder: Path, base: Base, settings: Mapping[str, Any]) -> WorkFolder:
    """The folder as an earlier run of the same commit and parameters left it, or a new one that is ready to plan in.

    Raises ConfigurationError for wrong parameters and for a base that is no pipeline, TransientError when DVC's remote
    does not give what it has.
    """
    known = _read(folder, base, settings)
    if known is not None:
        return WorkFolder(checkout, folder, base, settings, known["branch"], known["has_storage"])
    _check_base(checkout, base, settings)
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder / "repository", ignore_errors=True)
    branch = f"{BRANCHES}{datetime.now(UTC):%Y-%m-%d}-{_short_id(base, settings)}"
    work = WorkFolder(checkout, folder, base, settings, branch, _clone(checkout, folder / "repository", base, branch))
    write_settings(work.root / "params.yaml", settings)
    lend(checkout, work.root)
    dvc.restore(work.root, pull=work.has_storage)
    write_json(folder / STATE, _state(work))
    return work


def _short_id(base: Base, settings: Mapping[str, Any]) -> str:
    """Eight digits that stand for a commit with these parameters set."""
    return _digest([base.commit, settings])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _state(work: WorkFolder) -> dict[str, Any]:
    found = {"base": work.base.name, "commit": work.base.commit, "settings": dict(work.settings)}
    return {**found, "branch": work.branch, "has_storage": work.has_storage, "is_finished": False}


def _read(folder: Path, base: Base, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state of a ready folder of this commit with these parameters."""
    try:
        found: dict[str, Any] = read_json(folder / STATE)
    except FileNotFoundError:
        return None
    return found if (found["commit"], found["settings"]) == (base.commit, dict(settings)) else None


def _check_base(checkout: Path, base: Base, settings: Mapping[str, Any]) -> None:
    """Before anything is made: the commit is a pipeline, and the parameters are right."""
    needed = (".dvc/config", "dvc.yaml", "params.yaml")
    held = {name: dvc.git(checkout, "show", f"{base.commit}:{name}") for name in needed}
    missing = [name for name, text in held.items() if text is None]
    if missing:
        raise ConfigurationError(f"{base.name} has no {missing[0]} in git; commit it: a retrain works from commits")
    changed(held["params.yaml"] or "", settings, f"params.yaml of {base.name}")


def _clone(checkout: Path, root: Path, base: Base, branch: str) -> bool:
    root.parent.mkdir(parents=True, exist_ok=True)
    dvc.git_or_raise(checkout, "clone", "--quiet", "--no-checkout", "--no-tags", "--", str(checkout), str(root))
    dvc.git_or_raise(root, "checkout", "--quiet", "-b", branch, base.commit)
    return dvc.share(checkout, root)


def lend(checkout: Path, root: Path) -> None:
    """Link what parameters name by a relative path and git does not hold: files of questions, models.

    Raises ConfigurationError for a path that leads out of the repository: it would lead elsewhere from the clone.
    """
    params = read_yaml(root / "params.yaml")
    for text in _texts({name: section for name, section in params.items() if name != "publish"}):
        path = Path(text)
        if not text or len(text) > LONGEST_NAME or path.is_absolute() or not (checkout / path).exists():
            continue
        if ".." in path.parts:
            raise ConfigurationError(f"params.yaml: {text!r} leads elsewhere from a clone; make that path absolute")
        if not (root / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(checkout / path)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
