"""A release and a checkout made by hand, where there is no finished run, or little installed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import yaml

from stages.publish.folder import FolderStore
from stages.publish.gates import POLICY as GATES
from stages.publish.manifest import FileEntry, Manifest, canonical_json
from stages.publish.memory import Memory
from stages.publish.promotion import EVALUATION, Desk
from stages.publish.release import DESCRIPTORS, PARAMS, POLICY, Content, Release, recorded
from stages.shared.episode.roster import write_descriptors
from stages.shared.params import Params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.workspace import Workspace


def handmade(policy: Path, params: Params, names: Sequence[str], em: float) -> Release:
    """A release of a policy's folder that knows candidates by name; `em` tells it from others."""
    known = [Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.7, 0.7, 20)}) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        write_descriptors(Path(folder) / "descriptors.json", known)
        descriptors = (Path(folder) / "descriptors.json").read_bytes()
    contents: dict[str, Content] = {f"{POLICY}/{path.name}": path.read_bytes() for path in sorted(policy.iterdir())}
    contents |= {
        DESCRIPTORS: descriptors,
        PARAMS: canonical_json(recorded(params)),
        EVALUATION: json.dumps({"methods": {"router": {"average": {"em": em}}}}).encode(),
    }
    files = {
        name: FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data))
        for name, data in contents.items() if isinstance(data, bytes)
    }  # fmt: skip
    return Release(Manifest(synthetic=True, files=files), contents)


def checkout(root: Path, params: Params) -> Desk:
    """A folder that the commands take for a checkout: releases go to a folder in it, no channel asks for anything."""
    settings = {**params.model_dump(mode="json"), "publish": {"folder": "store"}}
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    (root / GATES).parent.mkdir()
    (root / GATES).write_text("{channels: {}, other: {}}")
    return Desk(FolderStore(root / "store"), Memory(Workspace(root).state, str(root / "store")), root)
