"""A release says what it was made from and by which software, in formats that tools read, the same each time."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from stages.publish.provenance import render_provenance
from stages.publish.release import Release, assemble
from stages.publish.sbom import installed, render_sbom
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError
from stages.shared.files import sha256
from stages.shared.params import Params
from stages.shared.workspace import Workspace

IMAGE = "2" * 64


def content(release: Release, name: str) -> dict:
    found = release.contents[name]
    assert isinstance(found, bytes)
    return json.loads(found)


def test_the_provenance_names_every_other_file_and_what_they_were_made_from(
    params: Params, workspace: Workspace
) -> None:
    release = assemble(params, workspace)
    statement = content(release, "provenance.json")
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    files = {name: entry.sha256 for name, entry in release.manifest.files.items()}
    assert subjects == {name: digest for name, digest in files.items() if name != "provenance.json"}
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["profile_name"] == "smoke"
    materials = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    for stage in ("ingest", "profile", "train"):
        assert materials[f"artifacts/{stage}/manifest.json"] == sha256(workspace.artifacts(stage) / "manifest.json")


def test_the_checkpoint_that_ppo_began_with_is_named(params: Params, workspace: Workspace) -> None:
    parent = workspace.artifacts("train") / "warm_start" / "model.safetensors"
    parent.parent.mkdir()
    parent.write_bytes(b"weights")
    write_manifest(workspace.artifacts("train"), "pointsman/train/1")
    definition = content(assemble(params, workspace), "provenance.json")["predicate"]["buildDefinition"]
    materials = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    assert materials["artifacts/train/warm_start/model.safetensors"] == sha256(parent)


def test_an_image_is_named_where_the_builder_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_IMAGE", f"registry.example/pointsman@sha256:{IMAGE}")
    found = json.loads(render_provenance({}, {}, {}))["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found == [{"name": "registry.example/pointsman", "digest": {"sha256": IMAGE}}]


def test_an_image_that_may_move_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_IMAGE", "pointsman:latest")
    with pytest.raises(ConfigurationError, match="POINTSMAN_IMAGE"):
        render_provenance({}, {}, {})


def test_the_bill_of_materials_holds_what_pointsman_needs_and_no_tool_of_its_developers() -> None:
    bill = json.loads(render_sbom())
    found = {each["name"]: each for each in bill["components"]}
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert found["boto3"]["purl"] == f"pkg:pypi/boto3@{version('boto3')}"
    assert {"torch", "botocore"} <= set(found)
    assert not {"pytest", "ruff", "pointsman"} & set(found)
    assert bill["metadata"]["component"]["name"] == "pointsman"
    assert len({each["bom-ref"] for each in bill["components"]}) == len(found)


def test_both_are_the_same_each_time() -> None:
    assert render_sbom.__wrapped__() == render_sbom.__wrapped__()
    assert render_provenance({"a": 1, "b": 2}, {"x": "0", "y": "1"}, {}) == render_provenance(
        {"b": 2, "a": 1}, {"y": "1", "x": "0"}, {}
    )


def test_what_is_not_installed_is_not_listed() -> None:
    assert installed("surely-not-installed") == {}
