"""`python -m flows.launch STAGE`, the command of every stage in dvc.yaml: runs the stage where `stage.runtime` says."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import dvc
from flows.container import run_in_container
from flows.needs import COMMIT, family_of, needs_of
from stages.shared.entry import run_stage
from stages.shared.errors import ConfigurationError
from stages.shared.params import Params
from stages.shared.processes import die_with_parent


def main(argv: Sequence[str] | None = None) -> int:
    """Become the stage's process, or run it in a container and return its exit code; it ends with DVC, if that dies."""
    parser = argparse.ArgumentParser(prog="python -m flows.launch", description="Run a stage where stage.runtime says.")
    parser.add_argument("stage")
    stage: str = parser.parse_args(argv).stage
    die_with_parent()
    return run_stage(stage, lambda params, workspace: launch(stage, params, workspace.root), [])


def launch(stage: str, params: Params, root: Path) -> None:
    """Run a stage. Raises SystemExit with its exit code, and ConfigurationError where its container cannot start."""
    runtime = params.stage.runtime
    if stage == "publish" and (commit := dvc.commit(root)):
        os.environ.setdefault(COMMIT, commit)
    if runtime == "process":
        os.execv(sys.executable, [sys.executable, "-m", f"stages.{stage}"])
    needs = needs_of(stage, params, root, _image(stage, params))
    if runtime == "kubernetes":
        from flows.job import run_as_job

        raise SystemExit(run_as_job(stage, needs, params.stage, root))
    raise SystemExit(run_in_container(runtime, stage, needs, params.stage, root))


def _image(stage: str, params: Params) -> str:
    family = family_of(stage, params)
    image = getattr(params.stage.images, family)
    if image is None:
        raise ConfigurationError(
            f"stage.runtime is {params.stage.runtime}, and stage.images.{family} names no image; "
            f"`make images` makes one, and says what to write there"
        )
    assert isinstance(image, str)
    return image


if __name__ == "__main__":
    raise SystemExit(main())
