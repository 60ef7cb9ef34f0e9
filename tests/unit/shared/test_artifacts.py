"""Manifests: an artifact folder is what it says it is, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.errors import IntegrityError

SCHEMA = "pointsman/questions/1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ingest" / "deep").mkdir(parents=True)
    (tmp_path / "ingest" / "train.parquet").write_bytes(b"one")
    (tmp_path / "ingest" / "deep" / "test.parquet").write_bytes(b"two")
    write_manifest(tmp_path / "ingest", SCHEMA)
    return tmp_path / "ingest"


def test_a_manifest_names_schema_hash_and_size(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["schema"] == SCHEMA
    assert list(manifest["files"]) == ["deep/test.parquet", "train.parquet"]
    assert manifest["files"]["train.parquet"]["bytes"] == 3


def test_an_untouched_folder_is_trusted(folder: Path) -> None:
    verify_manifest(folder)
    verify_manifest(folder, SCHEMA)


def test_every_fault_is_named_at_once(folder: Path) -> None:
    (folder / "train.parquet").write_bytes(b"eno")
    (folder / "deep" / "test.parquet").unlink()
    (folder / "extra").touch()
    with pytest.raises(IntegrityError) as caught:
        verify_manifest(folder)
    for fault in ("deep/test.parquet: missing", "extra: not in the manifest", "train.parquet: content changed"):
        assert fault in str(caught.value)
    assert "pointsman run --only ingest --force" in str(caught.value)


def test_another_schema_is_refused(folder: Path) -> None:
    with pytest.raises(IntegrityError, match="holds pointsman/questions/1, expected pointsman/questions/2"):
        verify_manifest(folder, "pointsman/questions/2")


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_missing_or_broken_manifest_is_refused(folder: Path, content: str | None) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        verify_manifest(folder)
