"""The software that made a release: a CycloneDX bill of materials, from the installed distributions."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.publish.manifest import canonical_json
from stages.shared.errors import ConfigurationError

ROOT = "pointsman"


@cache
def render_sbom() -> bytes:
    """CycloneDX 1.6 in JSON: Pointsman and all that it needs at run time, here. No time and no serial number.

    Raises ConfigurationError where Pointsman is not installed.
    """
    found = installed(ROOT)
    if ROOT not in found:
        raise ConfigurationError("Pointsman is not installed, so that nobody knows what it needs; run `make setup`")
    version = found.pop(ROOT)
    return canonical_json({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", **_component(ROOT, version)}},
        "components": [{"type": "library", **_component(name, found[name])} for name in sorted(found)],
    })  # fmt: skip


def installed(root: str) -> dict[str, str]:
    """Version by name of a distribution and all that it requires, directly or not, as far as it is installed."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    while todo:
        wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        name, extras = wanted
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = here.version
        for requirement in map(Requirement, here.requires or ()):
            if _applies(requirement, extras):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _component(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"name": name, "version": version, "purl": purl, "bom-ref": purl}
