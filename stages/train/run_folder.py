"""Where the train stage resumes from: one folder a step, named by a digest of everything the step reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.shared.files import read_json, sha256, write_json
from stages.shared.progress import say

ROOT = Path(__file__).resolve().parents[2]
READS = "reads.json"
LONGEST = 40
SHOWN = 6


def run_folder(runs: Path, step: str, reads: Mapping[str, Any], files: Iterable[Path], sources: Iterable[str]) -> Path:
    """`runs`/<step>-<digest>, made where it is not there yet; then it says what changed since the run before.

    `reads` is JSON-able, `files` are hashed by content, `sources` are paths below the repository: Python files, or
    folders of such. A changed line of those is another run.
    """
    read = _flat("", json.loads(json.dumps(reads, default=str)))
    read |= {path.name: sha256(path) for path in files}
    read |= {str(path.relative_to(ROOT)): sha256(path) for source in sources for path in _python(ROOT / source)}
    digest = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
    folder = runs / f"{step}-{digest[:16]}"
    if not (folder / READS).exists():
        _tell(step, read, _newest(runs, step))
        write_json(folder / READS, read)
    return folder


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs, a key a line: `train.ppo.clip: 0.2 -> 0.3`; of hashed files only the name."""
    differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return [_change(key, before.get(key), after.get(key)) for key in differing]


def _change(key: str, before: Any, after: Any) -> str:
    if any(isinstance(value, str) and len(value) > LONGEST for value in (before, after)):
        return key
    return f"{key}: {json.dumps(before)} -> {json.dumps(after)}"


def _tell(step: str, read: Mapping[str, Any], before: Path | None) -> None:
    if before is None:
        return
    lines = changes(read_json(before), read)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    say(f"train: {step} starts anew, {before.parent.name} is left as it is; what changed since:")
    for line in lines[:SHOWN] + more:
        say(f"  {line}")


def _newest(runs: Path, step: str) -> Path | None:
    found = (path for path in runs.glob(f"{step}-*/{READS}") if path.parent.name.rpartition("-")[0] == step)
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        key: leaf for name, part in value.items() for key, leaf in _flat(f"{prefix}.{name}".strip("."), part).items()
    }


def _python(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))
