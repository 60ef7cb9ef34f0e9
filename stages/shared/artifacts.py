"""Manifests: what an artifact folder holds, so that the next stage can trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.shared.errors import IntegrityError
from stages.shared.files import read_text, sha256, write_json

MANIFEST = "manifest.json"
LONGEST = 1 << 24
"""Bytes of a manifest."""


def write_manifest(folder: Path, schema: str) -> None:
    """Write `manifest.json`: the schema, as in `pointsman/questions/1`, and sha256 and bytes of every file."""
    paths = {name: folder / name for name in _files(folder)}
    files = {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in paths.items()}
    write_json(folder / MANIFEST, {"schema": schema, "files": files})


def verify_manifest(folder: Path, schema: str | None = None) -> None:
    """Check a folder against its manifest, and the manifest against `schema` where one is given.

    Raises IntegrityError naming every file that is missing, changed or not listed.
    """
    manifest = _read(folder)
    if schema is not None and manifest["schema"] != schema:
        raise IntegrityError(f"{folder}: holds {manifest['schema']}, expected {schema}; {_way_out(folder)}")
    listed, found = manifest["files"], set(_files(folder))
    faults = [f"{name}: missing" for name in sorted(set(listed) - found)]
    faults += [f"{name}: not in the manifest" for name in sorted(found - set(listed))]
    common = sorted(found & set(listed))
    faults += [f"{name}: content changed" for name in common if sha256(folder / name) != listed[name]["sha256"]]
    if faults:
        raise IntegrityError("\n  ".join([f"{folder} is not what its manifest says:", *faults, _way_out(folder)]))


def _files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_text(path, LONGEST))
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: no such file; {_way_out(folder)}") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not readable: {error}; {_way_out(folder)}") from error
    if not isinstance(manifest, dict) or not {"schema", "files"} <= manifest.keys():
        raise IntegrityError(f"{path} has no schema or no files; {_way_out(folder)}")
    return manifest


def _way_out(folder: Path) -> str:
    return f"run its stage again (`pointsman run --only {folder.name} --force`)"
