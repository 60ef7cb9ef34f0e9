"""What a release consists of: its files and their hashes. The digest of the canonical manifest names the release."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stages.shared.errors import IntegrityError

SCHEMA: Final = "pointsman/release/1"
MANIFEST = "manifest.json"
HARMLESS = frozenset({".safetensors", ".json", ".md", ".txt", ".jinja", ".model"})
"""Kinds of files that nothing executes when they are loaded (`.model` is SentencePiece's vocabulary)."""
DIGEST = re.compile(r"[0-9a-f]{64}")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file's content: hex SHA-256 and size."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """The content of a release and nothing else: no time, no run id, no place, so that equal content is one release."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["pointsman/release/1"] = SCHEMA
    synthetic: bool
    """Whether questions and candidates were the sandbox's."""
    files: dict[str, FileEntry]
    """By path inside the release, with forward slashes."""

    @field_validator("files")
    @classmethod
    def _safe_names(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if fault := name_fault(name):
                raise ValueError(f"{name!r}: {fault}")
        return files

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.bytes for entry in self.files.values())

    def canonical(self) -> bytes:
        """The manifest as it is stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """The release's name: hex SHA-256 of the canonical manifest."""
        return hashlib.sha256(self.canonical()).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling a value: sorted keys, no spaces, ASCII, no NaN (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def parse_manifest(data: bytes, digest: str, where: str) -> Manifest:
    """Read a stored manifest. Raises IntegrityError when it does not hash to `digest` or is not a safe manifest."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise IntegrityError(f"{where}: the manifest hashes to {actual[:16]}…, not to its name; do not use it")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise IntegrityError(f"{where}: not a manifest of {SCHEMA}: {faults}") from error
    if manifest.digest != digest:
        raise IntegrityError(f"{where}: the manifest is not spelled as Pointsman spells it; do not use it")
    return manifest


def name_fault(name: str) -> str | None:
    """Why a file may not be in a release: a name that leaves its folder, or content that could run when loaded."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name or not name.isprintable():
        return "not a plain relative path"
    if name == MANIFEST:
        return "the name is taken by the manifest"
    if path.suffix not in HARMLESS:
        return f"a release holds {', '.join(sorted(HARMLESS))} only; weights must be safetensors, a pickle can run code"
    return None
