"""Secrets of a run: from the environment, or from Prefect's Secret blocks. They are written nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger
from prefect.blocks.system import Secret

from flows.forge import FILE
from flows.needs import keys_of
from flows.process import FORGE_TOKEN
from stages.shared.params import Params, load_params

STAGES = ("ingest", "profile", "train", "evaluate", "publish")


def block_name(variable: str) -> str:
    """TOGETHER_API_KEY is the block `pointsman-together-api-key`, POINTSMAN_FORGE_TOKEN `pointsman-forge-token`."""
    return f"pointsman-{variable.lower().replace('_', '-').removeprefix('pointsman-')}"


def lend_secrets(root: Path) -> None:
    """Put what blocks hold into the environment of this process, and so of its stages, where it has no such variable.

    The log names the blocks, never what they hold.
    """
    for variable in wanted(root, load_params(root / "params.yaml")):
        if os.environ.get(variable):
            continue
        try:
            held = Secret.load(block_name(variable))
        except ValueError:  # there is no such block: the stage that needs the variable says so
            continue
        os.environ[variable] = str(held.get())  # type: ignore[union-attr]
        get_run_logger().info("%s is that of the block %s", variable, block_name(variable))


def wanted(root: Path, params: Params) -> list[str]:
    """The names of the variables that a run of these parameters may need."""
    return sorted({*_forge(root), *(name for stage in STAGES for name in keys_of(stage, params))})


def _forge(root: Path) -> Iterator[str]:
    if (root / FILE).is_file():
        yield FORGE_TOKEN
