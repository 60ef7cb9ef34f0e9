"""`python tests/contract/audit.py [FOLDER]`: known vulnerabilities in what requirements.lock pins (`make audit`).

Without FOLDER pip-audit asks PyPI. With it nobody is asked: FOLDER is a clone of github.com/pypa/advisory-database or
holds other advisories as OSV records (ossf.github.io/osv-schema), YAML or JSON, and the answer is as old as they are.
Exits with 0 where nothing is known against any package, with 1 where something is, with 2 where nobody could tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 1 << 22
"""Bytes of an advisory."""
CLEAN, AFFECTED, UNKNOWN = 0, 1, 2
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class Advisory:
    """One record that speaks of a locked package in its locked version."""

    package: str
    version: str
    id: str
    fixed: tuple[str, ...]
    """Versions that are no longer affected."""


def advisories(folder: Path, versions: Mapping[str, str]) -> tuple[list[Advisory], int, str]:
    """Those that hold for these versions; how many name one of the packages, and when the newest was modified."""
    locked: dict[str, Version] = {canonicalize_name(name): Version(version) for name, version in versions.items()}
    found, count, newest = set[Advisory](), 0, ""
    for record in _records(folder):
        named = [each for each in record["affected"] if _name(each) in locked and "withdrawn" not in record]
        count, newest = count + bool(named), max(newest, str(record.get("modified", "")) if named else "")
        for each in named:
            if _is_affected(each, version := locked[_name(each)]):
                fixed = {str(event["fixed"]) for events in _events(each) for event in events if "fixed" in event}
                found.add(Advisory(_name(each), str(version), str(record["id"]), tuple(sorted(fixed, key=_version))))
    return sorted(found), count, newest


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(path for kind in ("*.yaml", "*.json") for path in folder.rglob(kind)):
        with path.open("rb") as handle:
            text = handle.read(LONGEST)
        record = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader)
        if isinstance(record, dict) and isinstance(record.get("affected"), list):
            yield record


def _name(affected: Mapping[str, Any]) -> str:
    """Of a package of PyPI; "" for one of somewhere else."""
    package = affected.get("package") or {}
    return canonicalize_name(str(package.get("name", ""))) if package.get("ecosystem") == "PyPI" else ""


def _is_affected(affected: Mapping[str, Any], version: Version) -> bool:
    """By the list of versions or by a range, as OSV's evaluation says."""
    if any(_version(listed) == version for listed in affected.get("versions") or ()):
        return True
    return any(_within(events, version) for events in _events(affected))


def _within(events: list[Mapping[str, Any]], version: Version) -> bool:
    inside = False
    for event in sorted(events, key=lambda event: _version(next(iter(event.values())))):
        kind, at = next(iter(event.items()))
        if kind == "introduced" and version >= _version(at):
            inside = True
        if (kind == "fixed" and version >= _version(at)) or (kind == "last_affected" and version > _version(at)):
            inside = False
    return inside


def _events(affected: Mapping[str, Any]) -> Iterator[list[Mapping[str, Any]]]:
    for each in affected.get("ranges") or ():
        if each.get("type") == "ECOSYSTEM":
            yield each["events"]


def _version(text: Any) -> Version:
    try:
        return Version(str(text))
    except InvalidVersion:
        return Version("0")


def ask_pypi() -> int:
    """What pip-audit says, and what to do where it reached nobody."""
    command = [
        str(Path(sys.executable).with_name("uv")),
        "tool",
        "run",
        "--quiet",
        "pip-audit",
        "--strict",
        "--no-deps",
    ]
    command += ["--disable-pip", "-r", "requirements.lock"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode == 0 or "vulnerabilit" in done.stderr:
        print(done.stderr, end="", file=sys.stderr)
        return CLEAN if done.returncode == 0 else AFFECTED
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    print(f"audit: nothing is known, since PyPI's advisories cannot be had here; pip-audit says: {said}\n"
          "Ask again where PyPI's JSON is reachable, or give a checkout of github.com/pypa/advisory-database: "
          "make audit ADVISORIES=FOLDER", file=sys.stderr)  # fmt: skip
    return UNKNOWN


def read_folder(folder: Path, versions: Mapping[str, str]) -> int:
    """What the advisories of a folder say of the locked packages."""
    found, count, newest = advisories(folder, versions)
    if not count:
        print(f"audit: {folder} holds no advisory about a locked package; is it the right folder?", file=sys.stderr)
        return UNKNOWN
    for each in found:
        print(f"{each.package} {each.version}: {each.id}, fixed in {', '.join(each.fixed) or 'no version'}")
    print(f"{len(versions)} packages, {count} advisories that name one, the newest of {newest[:10]}: "
          f"{len(found)} hold for the locked versions")  # fmt: skip
    return AFFECTED if found else CLEAN


if __name__ == "__main__":
    beside = import_module("licences")  # of the script's own folder
    sys.exit(read_folder(Path(sys.argv[1]), beside.locked()) if sys.argv[1:] and sys.argv[1] else ask_pypi())
