"""What the publish stage leaves behind: which release, where, and the proof that it can be used. No time, no port."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stages.shared.artifacts import write_manifest
from stages.shared.errors import IntegrityError
from stages.shared.files import atomic_folder, read_json, write_json
from stages.shared.workspace import Workspace

STAGE, FILE, SCHEMA = "publish", "release.json", "pointsman/receipt/1"


@dataclass(frozen=True)
class Smoke:
    """One question that the release answered after it was downloaded again."""

    question: str
    gold: tuple[str, ...]
    answer: str | None
    ending: str


@dataclass(frozen=True)
class Receipt:
    """A published release."""

    digest: str
    endpoint: str | None
    """None is the embedded server."""
    bucket: str
    prefix: str
    key: str
    """Of the manifest, below the prefix."""
    files: dict[str, str]
    """SHA-256 by path."""
    bytes: int
    smoke: Smoke
    folder: str | None = None
    """Where the store is a folder."""


def write_receipt(receipt: Receipt, workspace: Workspace) -> None:
    """Write artifacts/publish and metrics/publish.json."""
    with atomic_folder(workspace.artifacts(STAGE)) as folder:
        write_json(folder / FILE, asdict(receipt))
        write_manifest(folder, SCHEMA)
    metrics = {"digest": receipt.digest, "files": len(receipt.files), "bytes": receipt.bytes}
    write_json(workspace.metrics(STAGE), metrics)


def read_receipt(workspace: Workspace) -> Receipt | None:
    """The receipt of the release published last from here; None where nothing was. Raises IntegrityError."""
    path = workspace.artifacts(STAGE) / FILE
    try:
        found: dict[str, Any] = read_json(path)
        smoke = Smoke(**{**found["smoke"], "gold": tuple(found["smoke"]["gold"])})
        return Receipt(**{**found, "smoke": smoke})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path} is no receipt ({error!r}); publish again (`python -m stages.publish`)") from error
