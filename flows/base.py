"""What a retrain starts from: a branch of the checkout or of its remote, and where the result is offered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows import dvc
from stages.shared.errors import ConfigurationError, PipelineError, TransientError

BRANCHES = "retrain/"


@dataclass(frozen=True)
class Base:
    """A branch, and the commit that it stands at."""

    name: str
    """As it was asked for: `main`, or `origin/main`."""
    branch: str
    """What the result is to be merged into."""
    commit: str
    remote: str | None
    """Of the checkout's git, where the result is pushed; None: it becomes a branch of the checkout's own repository."""


def find_base(root: Path, name: str) -> Base:
    """A branch of the checkout as it is, or one of its remote as it is there now; "" is the one checked out.

    Raises ConfigurationError when there is no such branch, no commit yet, or the checkout is only part of a repository,
    TransientError when the remote does not answer.
    """
    if dvc.git(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise ConfigurationError(f"{root} has no commit yet, and a retrain starts from one; commit your files first")
    if (dvc.git(root, "rev-parse", "--show-prefix") or "").strip():
        raise ConfigurationError(f"{root} is part of a larger git repository; a retrain needs one of its own")
    name = name or (dvc.git(root, "symbolic-ref", "--quiet", "--short", "HEAD") or "").strip()
    if not name:
        raise ConfigurationError(f"{root} has no branch checked out; say which to start from: --base BRANCH")
    remotes = (dvc.git(root, "remote") or "").split()
    commit = _commit(root, f"refs/heads/{name}")
    if commit is not None:
        return Base(name, name, commit, _remote_of(root, name, remotes))
    remote = next((each for each in remotes if name.startswith(f"{each}/")), None)
    if remote is None:
        raise ConfigurationError(f"there is no branch {name!r} here; give a local one, or REMOTE/BRANCH")
    return _fetched(root, name, remote)


def offered(root: Path, base: Base, ending: str) -> str | None:
    """The branch of an earlier retrain, by the end of its name; None where there is none.

    Raises TransientError when the remote does not answer.
    """
    pattern = f"refs/heads/{BRANCHES}*-{ending}"
    if base.remote is None:
        listed = dvc.git_or_raise(root, "for-each-ref", "--format=%(refname)", pattern)
    else:
        try:
            listed = dvc.git_or_raise(root, "ls-remote", "--heads", base.remote, pattern)
        except PipelineError as error:
            raise TransientError(f"the git remote {base.remote} does not answer; try again\n{error}") from error
    return next((line.partition("refs/heads/")[2] for line in listed.splitlines()), None)


def _commit(root: Path, reference: str) -> str | None:
    found = dvc.git(root, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    return found and found.strip()


def _remote_of(root: Path, branch: str, remotes: list[str]) -> str | None:
    configured = (dvc.git(root, "config", f"branch.{branch}.remote") or "").strip()
    alone = remotes if len(remotes) == 1 else []
    return next((each for each in (configured, "origin", *alone) if each in remotes), None)


def _fetched(root: Path, name: str, remote: str) -> Base:
    branch, kept = name.removeprefix(f"{remote}/"), f"refs/remotes/{name}"
    try:
        dvc.git_or_raise(root, "fetch", "--quiet", "--no-tags", remote, f"+refs/heads/{branch}:{kept}")
    except PipelineError as error:
        raise TransientError(f"{name} cannot be fetched; is it there, and the remote? Try again.\n{error}") from error
    commit = _commit(root, kept)
    assert commit is not None
    return Base(name, branch, commit, remote)
