"""Where the train stage resumes from: one folder a step, named by a digest of everything the step reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.shared.files import sha256

ROOT = Path(__file__).resolve().parents[2]


def run_folder(runs: Path, step: str, reads: Mapping[str, Any], files: Iterable[Path], sources: Iterable[str]) -> Path:
    """`runs`/<step>-<digest>, made where it is not there yet.

    `reads` is JSON-able, `files` are hashed by content, `sources` are paths below the repository: Python files, or
    folders of such. A changed line of those is another run.
    """
    digest = hashlib.sha256(json.dumps(reads, sort_keys=True, default=str).encode())
    for path in files:
        digest.update(f"{path.name} {sha256(path)}".encode())
    for path in sorted(file for source in sources for file in _python(ROOT / source)):
        digest.update(f"{path.relative_to(ROOT)} {sha256(path)}".encode())
    folder = runs / f"{step}-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _python(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.py"))
