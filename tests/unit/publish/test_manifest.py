"""A release is named by its content."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.publish.manifest import FileEntry, Manifest, canonical_json, name_fault, parse_manifest
from stages.shared.errors import IntegrityError

ONE = FileEntry(sha256="0" * 64, bytes=1)
TWO = FileEntry(sha256="1" * 64, bytes=2)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_says_the_same_and_has_one_spelling(value: object) -> None:
    spelled = canonical_json(value)
    assert json.loads(spelled) == value
    assert canonical_json(json.loads(spelled)) == spelled
    assert spelled.isascii()
    assert b"\n" not in spelled


@given(st.dictionaries(st.text(), st.integers(), min_size=2), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, int], rng: object) -> None:
    items = list(value.items())
    rng.shuffle(items)  # type: ignore[attr-defined]
    assert canonical_json(dict(items)) == canonical_json(value)


def test_nan_has_no_canonical_spelling() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_the_digest_is_the_hash_of_the_canonical_manifest_whatever_the_order_of_files() -> None:
    manifest = Manifest(synthetic=True, files={"a.json": ONE, "b.json": TWO})
    assert manifest.digest == hashlib.sha256(manifest.canonical()).hexdigest()
    assert manifest.digest == Manifest(synthetic=True, files={"b.json": TWO, "a.json": ONE}).digest


def test_the_digest_stays_what_it_was() -> None:
    manifest = Manifest(synthetic=True, files={"a.json": ONE})
    expected = (
        '{"files":{"a.json":{"bytes":1,"sha256":"' + "0" * 64 + '"}},"format":"pointsman/release/1","synthetic":true}'
    )
    assert manifest.canonical().decode() == expected


@pytest.mark.parametrize(
    "changed",
    [
        Manifest(synthetic=False, files={"a.json": ONE}),
        Manifest(synthetic=True, files={"b.json": ONE}),
        Manifest(synthetic=True, files={"a.json": TWO}),
    ],
)
def test_other_content_is_another_release(changed: Manifest) -> None:
    assert changed.digest != Manifest(synthetic=True, files={"a.json": ONE}).digest


def test_what_was_written_reads_back() -> None:
    manifest = Manifest(synthetic=True, files={"policy/model.safetensors": ONE})
    assert parse_manifest(manifest.canonical(), manifest.digest, "here") == manifest
    assert manifest.size == 1


def test_a_manifest_that_does_not_hash_to_its_name_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not to its name"):
        parse_manifest(b"{}", "0" * 64, "here")


@pytest.mark.parametrize("written", [b'{"files":{}, "format"', b'{"files":{"a.json":0},"files":{},"format"'])
def test_one_content_has_one_manifest_and_one_name(written: bytes) -> None:
    """Else a release would have two digests, and what was signed and pulled by the one not be found by the other."""
    data = Manifest(synthetic=True, files={}).canonical().replace(b'{"files":{},"format"', written)
    with pytest.raises(IntegrityError, match="not spelled as"):
        parse_manifest(data, hashlib.sha256(data).hexdigest(), "here")


@pytest.mark.parametrize(
    "name", ["../up.json", "/etc/x.json", "a/../../x.json", "a\\b.json", "a//b.json", "manifest.json"]
)
def test_a_manifest_with_a_file_outside_its_folder_is_refused(name: str) -> None:
    data = canonical_json(
        {"format": "pointsman/release/1", "synthetic": True, "files": {name: {"sha256": "0" * 64, "bytes": 1}}}
    )
    with pytest.raises(IntegrityError, match="files"):
        parse_manifest(data, hashlib.sha256(data).hexdigest(), "here")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt", "code.py", "x"])
def test_what_could_run_when_loaded_has_no_place_in_a_release(name: str) -> None:
    assert "pickle" in (name_fault(name) or "")


@pytest.mark.parametrize("name", ["model.safetensors", "policy/tokenizer.json", "README.md", "chat_template.jinja"])
def test_weights_in_safetensors_and_plain_text_may_be_in_a_release(name: str) -> None:
    assert name_fault(name) is None
