"""What DVC and stages say when something is wrong, as an error with its kind, its place and the way out."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from flows.disk import full_disk_told
from flows.dvc_errors import check_kept, failure, refusal
from stages.shared.errors import BudgetError, ConfigurationError, ConflictError, PipelineError, TransientError
from stages.shared.workspace import Workspace

LOST = "ERROR: failed to transfer '6bde2a' - [Errno 28] No space left on device: '{place}/y' -> '{place}/.BQ.tmp'"


@pytest.mark.parametrize(
    ("code", "stderr", "stdout", "kind", "words"),
    [
        (255, "", "", ConfigurationError, r"`dvc checkout` failed with exit code 255 and said nothing; in \S+, .* -v"),
        (255, "ERROR: 'o' is odd", "", ConfigurationError, r"`dvc checkout` refuses this repository; mend .*\n.*odd"),
        (1, "", "from stdout", ConfigurationError, "from stdout"),
        (1, "ERROR: dvc.lock is torn", "", ConfigurationError, "git checkout dvc.lock"),
        (-9, "", "", TransientError, "`dvc checkout` was ended by SIGKILL; .* the same command again"),
        (1, "ERROR: [Errno 28] No space left on device", "", BudgetError, "no disk space left .* make room"),
        (1, "ERROR: database or disk is full", "", BudgetError, "no disk space left .* make room"),
        (1, "ERROR: Unable to acquire lock", "", ConflictError, "another DVC command is at work"),
    ],
)  # fmt: skip
def test_a_refusal_says_why_and_the_way_out(
    tmp_path: Path, code: int, stderr: str, stdout: str, kind: type[PipelineError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        raise refusal(tmp_path, ["checkout", "--force"], subprocess.CompletedProcess([], code, stdout, stderr))


def test_an_output_that_did_not_fit_into_the_cache_fails_its_stage_and_leaves_nothing_half_written(
    tmp_path: Path,
) -> None:
    """DVC 3.67 says so, writes dvc.lock, and ends with 0."""
    half, whole = tmp_path / ".BQ.tmp", tmp_path / "bde2a"
    half.touch()
    whole.touch()
    with pytest.raises(BudgetError, match=r"first: DVC could not keep all .*No space left on device.* make room"):
        check_kept("first", ["Running stage 'first':", LOST.format(place=tmp_path)])
    assert (half.exists(), whole.exists()) == (False, True)
    with pytest.raises(TransientError, match=r"Permission denied.*try again"):
        check_kept("first", [f"ERROR: failed to transfer '6b' - [Errno 13] Permission denied: '/a' -> '{whole}'"])
    assert whole.exists()
    check_kept("first", ["Running stage 'first':"])


def test_a_stage_that_could_not_even_keep_its_error_on_a_full_disk_says_that_it_is_full(tmp_path: Path) -> None:
    lines = ["OSError: [Errno 28] No space left on device", "could not keep the error for the flow"]
    found = failure(Workspace(tmp_path), "train", lines)
    assert isinstance(found, BudgetError)
    assert "train: no disk space left; make room" in str(found)


def test_a_full_disk_under_a_flow_is_told_with_the_file_and_anything_else_is_left_as_it_is(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x.log"))
    with (
        pytest.raises(BudgetError, match=r"no disk space left, writing \S+x\.log; make room"),
        full_disk_told(tmp_path),
    ):
        raise full
    with pytest.raises(PermissionError), full_disk_told(tmp_path):
        raise PermissionError(errno.EACCES, "no")
