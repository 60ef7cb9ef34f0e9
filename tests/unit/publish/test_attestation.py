"""Who built what from which commit stands beside the release, and does not make another release of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from stages.publish.attestation import Build, attest, commit_from_environment, read_builds, seal_build
from stages.publish.folder import FolderStore
from stages.publish.keys import attestation_key, attestations_of
from stages.publish.release import publish
from stages.publish.signature import load_private_key, load_public_key, make_keys
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, IntegrityError
from tests.unit.publish.small import release_of

FIRST, SECOND = "1" * 40, "2" * 40 + "+"
RELEASE = release_of(0)
DIGEST = RELEASE.manifest.digest


def test_the_same_content_built_from_two_commits_is_one_release_with_two_attestations(any_store: Store) -> None:
    assert publish(RELEASE, any_store, commit=FIRST)
    for commit in (SECOND, FIRST):
        assert not publish(RELEASE, any_store, commit=commit)
    found = read_builds(any_store, DIGEST, [])
    assert {(build.commit, build.signer) for build in found} == {(FIRST, None), (SECOND, None)}
    assert len(found) == 2


def test_who_signs_the_release_signs_what_it_was_built_from(folder_store: FolderStore, tmp_path: Path) -> None:
    for name in ("ours", "other"):
        make_keys(tmp_path / name)
    publish(RELEASE, folder_store, signer=load_private_key(tmp_path / "ours"), commit=FIRST)
    ours, other = (load_public_key(tmp_path / f"{name}.pub") for name in ("ours", "other"))
    assert read_builds(folder_store, DIGEST, [other, ours]) == [Build(FIRST, ours.origin)]
    assert read_builds(folder_store, DIGEST, [other]) == [Build(FIRST, None)]


def test_one_that_a_key_signed_without_a_bundle_is_believed(folder_store: FolderStore, tmp_path: Path) -> None:
    for name in ("ours", "other"):
        make_keys(tmp_path / name)
    bundle = json.loads(seal_build(DIGEST, FIRST, load_private_key(tmp_path / "ours")))
    attest(folder_store, DIGEST, json.dumps(bundle["dsseEnvelope"]).encode())
    ours, other = (load_public_key(tmp_path / f"{name}.pub") for name in ("ours", "other"))
    assert read_builds(folder_store, DIGEST, [other, ours]) == [Build(FIRST, ours.origin)]
    assert read_builds(folder_store, DIGEST, [other]) == [Build(FIRST, None)]


def test_one_in_the_name_of_a_trusted_key_that_is_not_its_own_is_not_believed(
    folder_store: FolderStore, tmp_path: Path
) -> None:
    for name in ("ours", "other"):
        make_keys(tmp_path / name)
    ours = load_public_key(tmp_path / "ours.pub")
    forged = json.loads(seal_build(DIGEST, FIRST, load_private_key(tmp_path / "other")))
    forged["verificationMaterial"]["publicKey"]["hint"] = ours.id
    attest(folder_store, DIGEST, json.dumps(forged).encode())
    with pytest.raises(IntegrityError, match="not made with"):
        read_builds(folder_store, DIGEST, [ours])


def test_one_that_was_changed_or_is_about_another_release_is_not_believed(
    folder_store: FolderStore, tmp_path: Path
) -> None:
    attest(folder_store, DIGEST, seal_build(DIGEST, FIRST, None))
    (stored,) = folder_store.entries(attestations_of(DIGEST))
    content = b"".join(folder_store.read(stored.key) or ())
    elsewhere = "0" * 64
    folder_store.create(attestation_key(elsewhere, hashlib.sha256(content).hexdigest()), content, _sha(content))
    with pytest.raises(IntegrityError, match="another release"):
        read_builds(folder_store, elsewhere, [])
    folder_store.create(attestation_key("1" * 64, _sha(b"{}")), b"{}", _sha(b"{}"))
    with pytest.raises(IntegrityError, match="not a signed statement"):
        read_builds(folder_store, "1" * 64, [])
    path = tmp_path / "store" / stored.key
    path.write_bytes(content.replace(b"payloadType", b"payloadTypf"))
    with pytest.raises(IntegrityError, match="does not hash"):
        read_builds(folder_store, DIGEST, [])


def test_a_commit_that_may_move_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POINTSMAN_COMMIT", raising=False)
    assert commit_from_environment() is None
    monkeypatch.setenv("POINTSMAN_COMMIT", SECOND)
    assert commit_from_environment() == SECOND
    monkeypatch.setenv("POINTSMAN_COMMIT", "HEAD")
    with pytest.raises(ConfigurationError, match="POINTSMAN_COMMIT"):
        commit_from_environment()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
