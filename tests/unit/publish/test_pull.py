"""A release comes out of the store into a folder, verified and with its signature, and nothing else goes for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stages.publish.keys import signature_key
from stages.publish.manifest import Manifest
from stages.publish.signature import load_public_key
from tests.unit.publish.repository import Repository


def test_a_pull_brings_a_folder_up_to_date_and_leaves_other_folders_alone(repository: Repository) -> None:
    first, second, live = repository.publish(0.5), repository.publish(0.6), repository.workspace.root / "live"
    for digest in (first, second):
        repository.run("promote", digest, "--to", "production")
        assert repository.json("pull", "production", "--to", str(live))["digest"] == digest
        assert Manifest.model_validate_json((live / "manifest.json").read_bytes()).digest == digest
    (live / "prompt.txt").write_text("changed here")
    assert repository.run("pull", "production", "--to", str(live)) == 0
    assert (live / "prompt.txt").read_text() != "changed here"
    assert repository.run("pull", "production", "--to", str(repository.workspace.root)) == 2
    assert repository.json("pull", first)["folder"].endswith(f".pointsman/releases/{first}")


def test_a_pull_leaves_a_folder_alone_whose_manifest_is_of_another_kind(repository: Repository) -> None:
    """An app of the web has a manifest.json too, and every artifact of the pipeline."""
    repository.publish(0.5)
    web, trained = repository.workspace.root / "web", repository.workspace.artifacts("train")
    web.mkdir()
    for content in ('{"name": "an app"}', "[]", "no JSON"):
        (web / "manifest.json").write_text(content)
        assert repository.run("pull", "latest", "--to", str(web)) == 2
        assert (web / "manifest.json").read_text() == content
    assert repository.run("pull", "latest", "--to", str(trained)) == 2
    assert (trained / "policy" / "model.safetensors").is_file()
    assert "holds something else than a release" in repository.capsys.readouterr().err


def test_a_pull_brings_the_signature_though_the_release_is_there(repository: Repository) -> None:
    key = repository.workspace.root / "release.pem"
    repository.run("keys", str(key))
    digest = repository.publish(0.5, key)
    folder = Path(repository.json("pull", digest)["folder"])
    assert not (folder / "model.sig").exists()
    repository.policy(signed_by=("release.pem.pub",))
    repository.run("promote", digest, "--to", "production")
    assert repository.json("pull", "production")["signer"]
    stored = (
        repository.workspace.root
        / "store"
        / signature_key(digest, load_public_key(key.with_name("release.pem.pub")).id)
    )
    assert (folder / "model.sig").read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("place", ["params.yaml/below", "/proc/release", "x" * 300, "link"])
def test_a_folder_that_cannot_be_written_is_a_clear_error(repository: Repository, place: str) -> None:
    repository.publish(0.5)
    Path("link").symlink_to("nowhere")
    assert repository.run("pull", "latest", "--to", place) == 2
    assert "choose another: --to FOLDER" in repository.capsys.readouterr().err


def test_what_killed_pulls_left_goes_after_a_day(repository: Repository) -> None:
    digest = repository.publish(0.5)
    folder = repository.workspace.state / "releases"
    parts = [folder / f".{number:064x}.12.{end}" for number, end in enumerate(("part", "old.part", "part"))]
    for part, age in zip(parts, (25, 25, 23), strict=True):
        (part / "policy").mkdir(parents=True)
        os.utime(part, (time.time() - age * 3600,) * 2)
    assert repository.run("pull", digest) == 0
    assert [part.exists() for part in parts] == [False, False, True]
