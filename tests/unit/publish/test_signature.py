"""A signature holds for exactly one release and one key, and OpenSSF's own tool agrees."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, assemble
from stages.publish.signature import (
    SIGNATURE,
    PublicKey,
    check_signature,
    load_private_key,
    load_public_key,
    make_keys,
    sign,
)
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.params import Params
from stages.shared.workspace import Workspace

MANIFEST = Manifest(synthetic=True, files={"a/b.json": FileEntry(sha256="1" * 64, bytes=1)})


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys" / "release.pem")
    return tmp_path / "keys" / "release.pem"


def public(path: Path) -> PublicKey:
    return load_public_key(path.with_name(f"{path.name}.pub"))


def signed(manifest: Manifest, key: Path) -> bytes:
    return sign(manifest, load_private_key(key)).bundle


def test_a_signature_holds_for_its_release_and_key(key: Path) -> None:
    check_signature(signed(MANIFEST, key), MANIFEST, public(key), "here")


def test_to_sign_again_gives_the_same_bytes(key: Path) -> None:
    assert signed(MANIFEST, key) == signed(MANIFEST, key)


def test_git_takes_no_private_key_and_takes_its_public_half() -> None:
    """`git add -A` is what most people say."""
    ignored = subprocess.run(
        ["git", "check-ignore", "infra/release.pem", "infra/release.pem.pub"],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ignored.stdout.split() == ["infra/release.pem"]


def test_another_key_is_refused(key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other.pem")
    with pytest.raises(IntegrityError, match=r"not made with .*other\.pem\.pub"):
        check_signature(signed(MANIFEST, key), MANIFEST, public(tmp_path / "other.pem"), "here")


@pytest.mark.parametrize(
    "other",
    [
        Manifest(synthetic=False, files=MANIFEST.files),
        Manifest(synthetic=True, files={"a/b.json": FileEntry(sha256="2" * 64, bytes=1)}),
        Manifest(synthetic=True, files={}),
    ],
)
def test_the_signature_of_another_release_is_refused(key: Path, other: Manifest) -> None:
    with pytest.raises(IntegrityError, match="for other files"):
        check_signature(signed(MANIFEST, key), other, public(key), "here")


def test_every_changed_byte_of_the_payload_is_found(key: Path) -> None:
    bundle = json.loads(signed(MANIFEST, key))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    for place in range(len(payload)):
        flipped = bytes([*payload[:place], payload[place] ^ 1, *payload[place + 1 :]])
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(flipped).decode()
        with pytest.raises(IntegrityError):
            check_signature(json.dumps(bundle).encode(), MANIFEST, public(key), "here")


@pytest.mark.parametrize("bundle", [b"", b"{}", b"[]", b'{"dsseEnvelope": {"payload": "", "signatures": []}}', b"\xff"])
def test_what_is_no_signature_is_refused(key: Path, bundle: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a signature"):
        check_signature(bundle, MANIFEST, public(key), "here")


def test_the_private_key_is_for_its_owner_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(ConfigurationError, match="never overwritten"):
        make_keys(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("place", ["/", "release.pem/below", "x" * 300, "/proc/release.pem"])
def test_where_no_key_can_be_written_is_a_clear_error(key: Path, place: str) -> None:
    with pytest.raises(ConfigurationError, match="choose another path"):
        make_keys(key.parent / place)


def test_what_is_no_key_says_how_to_make_one(tmp_path: Path, key: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for wrong in (tmp_path / "no.pem", tmp_path / "missing.pem", key.with_name("release.pem.pub")):
        with pytest.raises(ConfigurationError, match="pointsman keys"):
            load_private_key(wrong)
    with pytest.raises(ConfigurationError, match="no public key"):
        load_public_key(key)


def lay_out(release: Release, folder: Path) -> None:
    """The release as `pull` leaves it."""
    for name, content in release.contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, folder / name)
        else:
            (folder / name).write_bytes(content)
    (folder / "manifest.json").write_bytes(release.manifest.canonical())


def test_openssf_s_own_tool_verifies_it_and_finds_a_changed_file(
    params: Params, workspace: Workspace, key: Path, tmp_path: Path
) -> None:
    release, folder = assemble(params, workspace), tmp_path / "pulled"
    lay_out(release, folder)
    (folder / SIGNATURE).write_bytes(signed(release.manifest, key))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / SIGNATURE), "--public_key", f"{key}.pub"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "prompt.txt").write_text("another")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
