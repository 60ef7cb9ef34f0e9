"""The mark that candidates are not those of the profile any more: it makes the next retrain profile them again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.shared.files import read_json, write_json
from stages.shared.workspace import Workspace

RENEWED = "profile.renewed"
FILE = "drift.json"


def mark(root: Path, candidates: Sequence[str]) -> int:
    """Mark the profile as stale for these candidates; since when, seconds since 1970.

    A mark for the same candidates stands as it is, so that a retrain that offered the remedy does not offer it twice.
    """
    known = _read(root)
    if known is not None and known["candidates"] == sorted(candidates):
        return int(known["since"])
    since = int(time.time())
    write_json(_path(root), {"since": since, "candidates": sorted(candidates)})
    return since


def clear(root: Path) -> None:
    """Take the mark away: the candidates are those of the profile."""
    _path(root).unlink(missing_ok=True)


def with_mark(root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a retrain, and what makes it profile again where the mark is set."""
    known = _read(root)
    return {**({RENEWED: known["since"]} if known else {}), **settings}


def _path(root: Path) -> Path:
    return Workspace(root).state / FILE


def _read(root: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = read_json(_path(root))
    except FileNotFoundError:
        return None
    return found
