"""Where a retrain starts and where its branch lands, on real git alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.base import find_base, offered
from flows.offer import push
from flows.work_folder import WorkFolder
from stages.shared.errors import ConfigurationError, TransientError

Git = Callable[..., str]
BRANCH = "retrain/2026-11-22-1a2b3c4d"


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a folder of the test, `checkout` if none is named."""

    def run(*arguments: str, at: str = "checkout") -> str:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path / at), *who, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def checkout(tmp_path: Path, git: Git) -> Path:
    """On the branch main, with one commit; a bare repository beside, which it does not know yet."""
    (tmp_path / "checkout").mkdir()
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "One")
    git("clone", "-q", "--bare", "checkout", "origin.git", at=".")
    return tmp_path / "checkout"


def test_the_default_is_the_branch_checked_out_and_its_remote_is_where_the_result_goes(
    checkout: Path, git: Git
) -> None:
    found = find_base(checkout, "")
    assert (found.name, found.branch, found.commit, found.remote) == ("main", "main", git("rev-parse", "HEAD"), None)
    git("remote", "add", "fork", "../origin.git")
    assert find_base(checkout, "main").remote == "fork"
    git("remote", "add", "origin", "../origin.git")
    assert find_base(checkout, "main").remote == "origin"
    git("config", "branch.main.remote", "fork")
    assert find_base(checkout, "main").remote == "fork"


def test_a_branch_of_a_remote_is_taken_as_it_is_there_now(checkout: Path, git: Git) -> None:
    git("remote", "add", "origin", "../origin.git")
    git("clone", "-q", "origin.git", "other", at=".")
    git("commit", "-q", "--allow-empty", "-m", "Two", at="other")
    git("push", "-q", at="other")
    found = find_base(checkout, "origin/main")
    assert (found.name, found.branch, found.remote) == ("origin/main", "main", "origin")
    assert found.commit == git("rev-parse", "HEAD", at="other") != git("rev-parse", "main")
    with pytest.raises(TransientError, match="origin/nowhere cannot be fetched"):
        find_base(checkout, "origin/nowhere")


def test_what_is_no_base_is_refused_with_the_way_out(checkout: Path, git: Git, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no branch '--all' here; give a local one, or REMOTE/BRANCH"):
        find_base(checkout, "--all")
    (checkout / "part").mkdir()
    with pytest.raises(ConfigurationError, match="part of a larger git repository"):
        find_base(checkout / "part", "main")
    git("checkout", "-q", "--detach")
    with pytest.raises(ConfigurationError, match="--base BRANCH"):
        find_base(checkout, "")
    git("init", "-q", "fresh", at=".")
    with pytest.raises(ConfigurationError, match="no commit yet"):
        find_base(tmp_path / "fresh", "")


def retrained(checkout: Path, git: Git) -> tuple[WorkFolder, str]:
    """A work folder with a commit to offer."""
    folder = checkout.parent / "work"
    git("clone", "-q", "checkout", str(folder / "repository"), at=".")
    git("checkout", "-q", "-b", BRANCH, at="work/repository")
    git("commit", "-q", "--allow-empty", "-m", "Retrain", at="work/repository")
    work = WorkFolder(checkout, folder, find_base(checkout, ""), {}, BRANCH, has_storage=False)
    return work, git("rev-parse", "HEAD", at="work/repository")


def test_without_a_remote_the_branch_lands_in_the_checkout_s_own_repository(checkout: Path, git: Git) -> None:
    work, made = retrained(checkout, git)
    assert offered(checkout, work.base, "1a2b3c4d") is None
    for _ in range(2):
        push(work, made)
    assert git("rev-parse", BRANCH) == made
    assert (git("symbolic-ref", "--short", "HEAD"), git("status", "--short")) == ("main", "")
    assert offered(checkout, work.base, "1a2b3c4d") == BRANCH


def test_with_a_remote_it_lands_there_alone_and_outlives_the_work_folder(checkout: Path, git: Git) -> None:
    git("remote", "add", "origin", "../origin.git")
    work, made = retrained(checkout, git)
    push(work, made)
    work.remove()
    assert git("rev-parse", BRANCH, at="origin.git") == made
    assert git("branch", "--list", "retrain/*") == ""
    assert git("log", "-1", "--format=%s", f"origin/{BRANCH}") == "Retrain"
    assert offered(checkout, work.base, "1a2b3c4d") == BRANCH


def test_a_remote_that_is_away_may_be_tried_again_and_its_password_is_not_told(checkout: Path, git: Git) -> None:
    git("remote", "add", "origin", "http://ada:secret@127.0.0.1:9/origin.git")
    work, made = retrained(checkout, git)
    with pytest.raises(TransientError, match="the same command pushes it again") as caught:
        push(work, made)
    assert "secret" not in str(caught.value)
    with pytest.raises(TransientError, match="origin does not answer") as caught:
        offered(checkout, work.base, "1a2b3c4d")
    assert "secret" not in str(caught.value)
