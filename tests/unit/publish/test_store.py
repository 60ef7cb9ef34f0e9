"""What every backend of the store keeps to: created once, swapped by comparison, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stages.publish.folder import INCOMING, FolderStore
from stages.publish.store import Hashed, Store
from stages.shared.errors import ConfigurationError, IntegrityError

RACERS = 16


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(store: Store, key: str) -> bytes | None:
    chunks = store.read(key)
    return None if chunks is None else b"".join(chunks)


def test_an_object_is_created_once_and_never_overwritten(any_store: Store) -> None:
    assert any_store.create("a/b", b"first", digest(b"first"))
    assert not any_store.create("a/b", b"second", digest(b"second"))
    assert content(any_store, "a/b") == b"first"


def test_a_file_comes_back_as_it_went(any_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 8192)
    assert any_store.create("file", path, digest(path.read_bytes()))
    assert content(any_store, "file") == path.read_bytes()


def test_a_file_of_several_parts_comes_back_as_it_went(any_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 17)
    assert any_store.create("large", path, digest(path.read_bytes()))
    assert not any_store.create("large", path, digest(path.read_bytes()))
    with (tmp_path / "copy").open("wb") as sink:
        hashed = any_store.hash("large", 17 << 20, sink.fileno())
    assert hashed == Hashed(digest(path.read_bytes()), 17 << 20)
    cut = any_store.hash("large", 16 << 20)
    assert cut is not None
    assert cut.bytes == 17 << 20
    assert cut.sha256 != digest(path.read_bytes()), "no more is read than was asked for"
    pieces = list(any_store.read("large") or ())
    assert b"".join(pieces) == (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert max(map(len, pieces)) <= 16 << 20


def test_a_large_file_without_the_announced_hash_is_refused_and_leaves_nothing(
    any_store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(17 << 20))
    with pytest.raises(IntegrityError, match=r"SHA-256|changed"):
        any_store.create("large", path, digest(b"other"))
    assert any_store.read("large") is None
    assert any_store.abandon("", datetime.now(UTC) + timedelta(days=1)) == []


def test_an_empty_object_is_an_object(any_store: Store) -> None:
    assert any_store.create("empty", b"", digest(b""))
    assert content(any_store, "empty") == b""
    assert any_store.hash("empty", 0) == Hashed(digest(b""), 0)


def test_content_without_the_announced_hash_is_refused_and_leaves_nothing(any_store: Store) -> None:
    with pytest.raises(IntegrityError, match="SHA-256"):
        any_store.create("wrong", b"content", digest(b"other"))
    assert any_store.read("wrong") is None
    assert any_store.entries("") == []


def test_what_is_not_there_reads_as_nothing(any_store: Store) -> None:
    assert any_store.read("missing") is None
    assert any_store.hash("missing", 1) is None
    assert any_store.load("missing") is None
    assert any_store.entries("") == []
    any_store.remove("missing")


def test_of_racing_creators_one_wins_and_the_others_are_told(any_store: Store) -> None:
    bodies = [bytes([number]) * 100 for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(lambda body: any_store.create("race", body, digest(body)), bodies))
    assert sum(won) == 1
    assert content(any_store, "race") == bodies[won.index(True)]


def test_a_swap_needs_the_version_that_is_there(any_store: Store) -> None:
    assert any_store.swap("pointer", b"1", None)
    first = any_store.load("pointer")
    assert first is not None
    assert not any_store.swap("pointer", b"other", None)
    assert any_store.swap("pointer", b"2", first.version)
    assert not any_store.swap("pointer", b"3", first.version)
    assert content(any_store, "pointer") == b"2"


def test_a_swap_of_what_is_gone_does_nothing(any_store: Store) -> None:
    any_store.swap("pointer", b"1", None)
    first = any_store.load("pointer")
    assert first is not None
    any_store.remove("pointer")
    assert not any_store.swap("pointer", b"2", first.version)
    assert any_store.load("pointer") is None


@pytest.mark.parametrize("existing", [True, False])
def test_of_racing_swaps_one_wins(any_store: Store, existing: bool) -> None:
    if existing:
        any_store.swap("pointer", b"start", None)
    before = any_store.load("pointer")
    version = before.version if before else None
    bodies = [f"racer {number}".encode() for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(lambda body: any_store.swap("pointer", body, version), bodies))
    assert sum(won) == 1
    assert content(any_store, "pointer") == bodies[won.index(True)]


def test_entries_have_size_and_age_and_are_in_the_order_of_keys(any_store: Store) -> None:
    for key in ("m/2", "m/1", "n/1", "m-other/9"):
        any_store.create(key, key.encode(), digest(key.encode()))
    assert [(entry.key, entry.bytes) for entry in any_store.entries("m/")] == [("m/1", 3), ("m/2", 3)]
    ages = [entry.modified.timestamp() for entry in any_store.entries("")]
    assert len(ages) == 4
    assert max(ages) - min(ages) < 60


def test_the_probe_finds_that_writes_are_conditional_and_may_be_repeated(any_store: Store) -> None:
    any_store.probe()
    any_store.probe()


def test_a_folder_that_cannot_be_written_is_refused_by_the_probe(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"publish\.folder"):
        FolderStore(tmp_path / "file" / "store").probe()


def test_a_file_system_without_hard_links_is_refused_by_the_probe(
    folder_store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(ConfigurationError, match="hard links"):
        folder_store.probe()


def test_what_a_crash_left_half_written_is_not_listed(folder_store: FolderStore, tmp_path: Path) -> None:
    folder_store.create("a", b"a", digest(b"a"))
    (tmp_path / "store" / INCOMING / "half").write_bytes(b"ha")
    assert [entry.key for entry in folder_store.entries("")] == ["a"]


def test_what_a_crash_left_half_written_is_removed_by_age(folder_store: FolderStore, tmp_path: Path) -> None:
    folder_store.create("a", b"a", digest(b"a"))
    half = tmp_path / "store" / INCOMING / "half"
    half.write_bytes(b"ha")
    assert folder_store.abandon("", datetime.now(UTC) - timedelta(days=1)) == []
    for dry_run in (True, False):
        (found,) = folder_store.abandon("", datetime.now(UTC) + timedelta(days=1), dry_run=dry_run)
        assert (found.bytes, half.exists()) == (2, dry_run)


def test_a_folder_keeps_nothing_half_written_after_an_error(folder_store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        folder_store.create("a", b"a", digest(b"b"))
    assert list((tmp_path / "store" / INCOMING).iterdir()) == []
