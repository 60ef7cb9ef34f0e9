"""A checkout in which a release manager works, its releases in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.publish.channels import pointer_key
from stages.publish.fetch import read_manifest
from stages.publish.folder import FolderStore
from stages.publish.gates import POLICY
from stages.publish.manage import main
from stages.publish.manifest import Manifest
from stages.publish.release import assemble, publish
from stages.publish.signature import load_private_key
from stages.shared.params import Params
from stages.shared.workspace import Workspace

COMMIT = "1" * 40 + "+"
ROOT = Path(__file__).resolve().parents[3]
GATES = [
    {"metric": "em", "at_least": 0.4},
    {"metric": "em", "against": "served", "at_least": -0.02},
    {"metric": "cost", "at_most": 20.0},
]


@dataclass
class Repository:
    """A checkout whose releases go to a folder."""

    workspace: Workspace
    params: Params
    capsys: pytest.CaptureFixture[str]

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.workspace.root / "store")

    def policy(self, *gates: dict[str, Any], signed_by: tuple[str, ...] = ()) -> None:
        """What production asks."""
        production = {"gates": list(gates), "signed_by": list(signed_by)}
        path = self.workspace.root / POLICY
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"channels": {"production": production}, "other": {}}))

    def publish(self, em: float, key: Path | None = None) -> str:
        """A release whose router has this EM."""
        path = self.workspace.metrics("evaluate")
        metrics = json.loads(path.read_text())
        metrics["methods"]["router"]["average"]["em"] = em
        path.write_text(json.dumps(metrics))
        release = assemble(self.params, self.workspace)
        publish(release, self.store, signer=load_private_key(key) if key else None, commit=COMMIT)
        return release.manifest.digest

    def run(self, *arguments: str) -> int:
        """A command, its output left to `said`."""
        return main(list(arguments))

    def json(self, *arguments: str) -> Any:
        """The JSON that a command which succeeds prints."""
        self.capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        return json.loads(self.capsys.readouterr().out)

    def manifest(self, digest: str) -> Manifest:
        return read_manifest(self.store, digest)

    def served(self) -> str | None:
        path = self.workspace.root / "store" / pointer_key("production")
        return json.loads(path.read_bytes())["digest"] if path.exists() else None
