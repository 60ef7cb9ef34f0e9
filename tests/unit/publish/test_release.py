"""What a release is, and when it is published."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from stages.publish.fetch import fetch_release, list_releases
from stages.publish.folder import FolderStore
from stages.publish.keys import blob_key, manifest_key
from stages.publish.release import Release, assemble, policy_files, publish
from stages.publish.store import Hashed, Store
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError, DataError, IntegrityError
from stages.shared.params import Params, PublishParams
from stages.shared.workspace import Workspace


@pytest.fixture
def release(params: Params, workspace: Workspace) -> Release:
    return assemble(params, workspace)


def test_a_release_holds_all_that_one_needs_to_use_and_to_judge_it(release: Release) -> None:
    names = set(release.manifest.files)
    assert {"README.md", "descriptors.json", "params.json", "prompt.txt"} <= names
    assert {"policy/model.safetensors", "policy/tokenizer.json", "policy/config.json"} <= names
    assert {f"metrics/{stage}.json" for stage in ("ingest", "profile", "train", "evaluate")} <= names


def test_the_same_content_has_the_same_digest(release: Release, params: Params, workspace: Workspace) -> None:
    assert assemble(params, workspace).manifest.digest == release.manifest.digest


def test_where_it_is_published_does_not_change_what_it_is(
    release: Release, params: Params, workspace: Workspace
) -> None:
    elsewhere = params.model_copy(update={"publish": PublishParams(endpoint="https://s3.example.org", bucket="other")})
    assert assemble(elsewhere, workspace).manifest.digest == release.manifest.digest


def test_other_metrics_are_another_release(release: Release, params: Params, workspace: Workspace) -> None:
    workspace.metrics("train").write_text('{"end": {"reward": 0.6}}')
    assert assemble(params, workspace).manifest.digest != release.manifest.digest


def test_the_prompt_shows_the_seen_candidates_only(release: Release) -> None:
    prompt = release.contents["prompt.txt"]
    assert b"Arlix" in prompt
    assert b"Guvex" not in prompt
    assert b"{question}" in prompt


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "deep/weights.pkl"])
def test_a_pickle_in_the_policy_folder_is_refused(params: Params, workspace: Workspace, name: str) -> None:
    path = workspace.artifacts("train") / "policy" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps([1]))
    write_manifest(workspace.artifacts("train"), "pointsman/train/1")
    with pytest.raises(DataError, match=rf"{name}.*safetensors"):
        assemble(params, workspace)


def test_a_pickle_that_calls_itself_safetensors_is_refused(params: Params, workspace: Workspace) -> None:
    (workspace.artifacts("train") / "policy" / "model.safetensors").write_bytes(pickle.dumps([1] * 100))
    write_manifest(workspace.artifacts("train"), "pointsman/train/1")
    with pytest.raises(DataError, match="not a safetensors file"):
        assemble(params, workspace)


def test_a_policy_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no weights"):
        policy_files(tmp_path)


def test_artifacts_that_changed_after_their_stage_are_refused(params: Params, workspace: Workspace) -> None:
    (workspace.artifacts("train") / "policy" / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"config\.json: content changed"):
        assemble(params, workspace)


@pytest.mark.parametrize("content", [None, "{not json", '{"methods": NaN}'])
def test_missing_or_damaged_metrics_name_the_stage_to_run(
    params: Params, workspace: Workspace, content: str | None
) -> None:
    path = workspace.metrics("evaluate")
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=r"evaluate\.json.*stage evaluate"):
        assemble(params, workspace)


def test_metrics_without_the_router_are_refused(params: Params, workspace: Workspace) -> None:
    workspace.metrics("evaluate").write_text(json.dumps({"methods": {"random": {}}}))
    with pytest.raises(DataError, match="router"):
        assemble(params, workspace)


def test_two_publishes_of_the_same_content_are_one_release(any_store: Store, release: Release) -> None:
    assert publish(release, any_store)
    before = any_store.entries("")
    assert not publish(release, any_store)
    assert [(entry.key, entry.modified) for entry in any_store.entries("")] == [(e.key, e.modified) for e in before]
    assert list_releases(any_store) == [release.manifest.digest]


def test_content_lies_under_its_hash_and_is_stored_once(any_store: Store, release: Release) -> None:
    publish(release, any_store)
    blobs = {entry.key for entry in any_store.entries("blobs/")}
    assert blobs == {blob_key(entry.sha256) for entry in release.manifest.files.values()}
    assert [entry.key for entry in any_store.entries("manifests/")] == [manifest_key(release.manifest.digest)]


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_leaves_a_whole_release_or_none(
    folder_store: FolderStore, release: Release, tmp_path: Path, dying: Any, after: bool
) -> None:
    digest, survived = release.manifest.digest, 0
    while True:
        try:
            publish(release, dying(folder_store, survived, after))
            break
        except KeyboardInterrupt:
            survived += 1
        if list_releases(folder_store):
            fetch_release(folder_store, digest, tmp_path / "fetched")
        else:
            with pytest.raises(ConfigurationError, match="holds no release"):
                fetch_release(folder_store, digest, tmp_path / "fetched")
    assert survived > len(set(release.manifest.files.values()))
    assert list_releases(folder_store) == [digest]
    fetch_release(folder_store, digest, tmp_path / "fetched")


class Forgetful(FolderStore):
    """A store that gives back something else than it was given."""

    def hash(self, key: str, most: int, sink: int | None = None) -> Hashed | None:
        return Hashed(hashlib.sha256(b"something else").hexdigest(), 14)


def test_a_store_that_gives_back_something_else_gets_no_manifest(release: Release, tmp_path: Path) -> None:
    store = Forgetful(tmp_path / "forgetful")
    with pytest.raises(IntegrityError, match="does not hold what its name says"):
        publish(release, store)
    assert list_releases(store) == []
