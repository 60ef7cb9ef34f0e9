"""Weights without running anything: safetensors only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from stages.shared.errors import DataError


def count_parameters(paths: Iterable[Path]) -> int:
    """Parameters in the safetensors files among `paths`, from their headers. Raises DataError for a damaged one."""
    return sum(_count(path) for path in paths if path.suffix == ".safetensors")


def _count(path: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file ({error}); run the train stage again") from error
