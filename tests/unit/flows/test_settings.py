"""Parameters set for one run: the rest of the file stays as a person wrote it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.settings import changed, parse_settings
from stages.shared.errors import ConfigurationError

PROFILES = sorted((Path(__file__).resolve().parents[3] / "infra" / "profiles").glob("*.yaml"))


def difference(text: str, settings: dict[str, Any]) -> list[str]:
    after = changed(text, settings, "params.yaml")
    lines = difflib.unified_diff(text.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_only_the_lines_that_are_set_change_in_every_shipped_profile(path: Path) -> None:
    text = path.read_text()
    found = difference(text, {"ingest.seed": 8, "evaluate.methods": ["knn"]})
    assert found[:2] == ["-  seed: 7", "+  seed: 8"]
    after = yaml.safe_load(changed(text, {"ingest.seed": 8, "evaluate.methods": ["knn"]}, "x"))
    expected = yaml.safe_load(text)
    expected["ingest"]["seed"], expected["evaluate"]["methods"] = 8, ["knn"]
    assert after == expected
    assert difference(text, {}) == []


def test_values_in_lists_and_in_one_line_mappings_and_new_ones_are_set_in_their_place() -> None:
    text = next(path for path in PROFILES if path.stem == "sandbox").read_text()
    assert difference(text, {"pool.experts.0.price": 1.5}) == ["-      price: 1.6", "+      price: 1.5"]
    assert difference(text, {"pool.experts.0.skill.plant": 0.5})[1].startswith("+      skill: {plant: 0.5, song: 0.2,")
    assert difference(text, {"pool.experts.0.failure_rate": 0.1}) == [
        "-    - name: Arlix", "+    - failure_rate: 0.1", "+      name: Arlix"
    ]  # fmt: skip
    assert difference(text, {"train.overrides": {"a.b": 1}})[-1] == "+  overrides: {a.b: 1}"


def test_empty_and_block_values_are_replaced_whole() -> None:
    text = next(path for path in PROFILES if path.stem == "sandbox").read_text()
    bare = text.replace("folder: null             #", "folder:  #").replace(
        "prefix: releases", "prefix: |\n    old\n    older"
    )
    after = yaml.safe_load(changed(bare, {"publish.folder": "store", "publish.prefix": "new"}, "x"))["publish"]
    assert (after["folder"], after["prefix"], after["region"]) == ("store", "new", "us-east-1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["ingest.seed"], "write it as ingest.seed=8"),
        (["=8"], "sets nothing"),
        (["ingest.seed=[8"], "not readable YAML"),
        (["ingest.seed=eight"], "ingest.seed: Input should be a valid integer"),
        (["ingest.speed=8"], "ingest.speed: unknown key"),
        (["ingest.seed.deeper=8"], "ingest.seed.deeper is no parameter"),
        (["pool.experts.9.price=1"], "there is no 9"),
        (["profile_name=2026-11-22"], "a text is to be quoted"),
        (["evaluate.confidence=.nan"], "quoted"),
    ],
)
def test_what_sets_nothing_or_something_wrong_is_refused_with_the_place(given: list[str], words: str) -> None:
    text = next(path for path in PROFILES if path.stem == "sandbox").read_text()
    with pytest.raises(ConfigurationError) as caught:
        changed(text, parse_settings(given), "params.yaml")
    assert words in str(caught.value)
