"""Nothing is used that does not hash to its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from stages.publish.fetch import _whole, fetch_release, read_json, resolve, verify_release
from stages.publish.keys import blob_key, manifest_key
from stages.publish.location import Location
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, assemble, publish
from stages.publish.s3 import S3Store
from stages.publish.seaweed import Server
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.params import Params
from stages.shared.workspace import Workspace

FILE = "metrics/train.json"


@pytest.fixture
def release(params: Params, workspace: Workspace, store: S3Store) -> Release:
    made = assemble(params, workspace)
    publish(made, store)
    return made


class Intruder:
    """Somebody with the keys, who bypasses the store's rules."""

    def __init__(self, server: Server, location: Location) -> None:
        self.client = boto3.client(
            "s3", endpoint_url=server.url, aws_access_key_id=server.keys.access,
            aws_secret_access_key=server.keys.secret, region_name=location.region,
        )  # fmt: skip
        self.location = location

    def overwrite(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.location.bucket, Key=f"{self.location.prefix}/{key}", Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.location.bucket, Key=f"{self.location.prefix}/{key}")


@pytest.fixture
def intruder(server: Server, location: Location) -> Intruder:
    return Intruder(server, location)


class Endless:
    """A store that never ends what it begins to send."""

    place = "endless"

    def __init__(self) -> None:
        self.sent = 0

    def read(self, key: str) -> Iterator[bytes] | None:
        return self.chunks()

    def chunks(self) -> Iterator[bytes]:
        while True:
            self.sent += 1 << 20
            yield bytes(1 << 20)


def test_a_store_that_sends_without_end_is_not_listened_to() -> None:
    endless, entry = Endless(), FileEntry(sha256="0" * 64, bytes=1 << 20)
    with pytest.raises(IntegrityError, match="does not hash as the manifest says"):
        read_json(endless, Manifest(synthetic=True, files={FILE: entry}), FILE)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="a manifest or signature of more than"):
        _whole(endless.chunks(), "endless")
    assert endless.sent < 1 << 28


def test_what_comes_back_is_what_went_in(store: S3Store, release: Release, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    assert fetch_release(store, release.manifest.digest, folder) == release.manifest
    assert verify_release(folder, release.manifest.digest) == release.manifest
    for name, content in release.contents.items():
        assert (folder / name).read_bytes() == (content.read_bytes() if isinstance(content, Path) else content)


def test_one_changed_byte_is_found_and_nothing_is_left(
    store: S3Store, release: Release, intruder: Intruder, tmp_path: Path
) -> None:
    entry = release.manifest.files[FILE]
    intruder.overwrite(blob_key(entry.sha256), b"x" * entry.bytes)
    with pytest.raises(IntegrityError, match=FILE):
        fetch_release(store, release.manifest.digest, tmp_path / "new" / "fetched")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_corrupt_blob_stops_a_publish_of_the_same_content(
    store: S3Store, release: Release, intruder: Intruder
) -> None:
    intruder.overwrite(blob_key(release.manifest.files[FILE].sha256), b"x")
    with pytest.raises(IntegrityError, match="never overwritten"):
        publish(release, store)


def test_a_lost_blob_is_found_and_put_back_by_the_next_publish(
    store: S3Store, release: Release, intruder: Intruder, tmp_path: Path
) -> None:
    intruder.delete(blob_key(release.manifest.files[FILE].sha256))
    with pytest.raises(IntegrityError, match=f"lacks {FILE}"):
        fetch_release(store, release.manifest.digest, tmp_path / "fetched")
    assert not publish(release, store)
    fetch_release(store, release.manifest.digest, tmp_path / "fetched")


def test_a_changed_manifest_is_refused(store: S3Store, release: Release, intruder: Intruder, tmp_path: Path) -> None:
    intruder.overwrite(manifest_key(release.manifest.digest), release.manifest.canonical().replace(b"true", b"false"))
    with pytest.raises(IntegrityError, match="not to its name"):
        fetch_release(store, release.manifest.digest, tmp_path / "fetched")


def test_a_file_changed_after_the_download_is_found(store: S3Store, release: Release, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    fetch_release(store, release.manifest.digest, folder)
    (folder / FILE).write_text("{}")
    with pytest.raises(IntegrityError, match=rf"{FILE} changed"):
        verify_release(folder, release.manifest.digest)
    (folder / FILE).unlink()
    with pytest.raises(IntegrityError, match=rf"{FILE} is missing"):
        verify_release(folder, release.manifest.digest)


def test_a_release_that_is_not_there_is_a_clear_error(store: S3Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no release"):
        fetch_release(store, "0" * 64, tmp_path / "fetched")


def commit(store: S3Store, seed: int) -> str:
    entry = FileEntry(sha256=hashlib.sha256(bytes([seed])).hexdigest(), bytes=seed)
    manifest = Manifest(synthetic=True, files={"a.json": entry})
    store.create(manifest_key(manifest.digest), manifest.canonical(), manifest.digest)
    return manifest.digest


def test_a_release_is_found_by_its_first_digits(store: S3Store) -> None:
    digests = [commit(store, seed) for seed in range(3)]
    assert resolve(store, digests[1][:8]) == digests[1]
    assert resolve(store, "f" * 64) == "f" * 64


def test_latest_is_the_release_published_last(store: S3Store, release: Release) -> None:
    assert resolve(store, "latest") == release.manifest.digest


@pytest.mark.parametrize("name", ["abc", "newest", "ABCDEF0", ""])
def test_a_name_that_can_be_no_digest_is_refused(store: S3Store, name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no release"):
        resolve(store, name)


@pytest.mark.parametrize("name", ["latest", "abcdef0"])
def test_an_empty_store_holds_no_release(store: S3Store, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"holds no release {name}"):
        resolve(store, name)


def test_digits_that_fit_several_releases_name_them(store: S3Store) -> None:
    for digit in "01":
        store.create(manifest_key("abcdef" + digit * 58), digit.encode(), hashlib.sha256(digit.encode()).hexdigest())
    with pytest.raises(ConfigurationError, match=r"ambiguous.*abcdef0.*abcdef1"):
        resolve(store, "abcdef")
