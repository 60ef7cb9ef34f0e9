"""A release: the trained router with all that one needs to use and to judge it, put into a store under its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.publish.attestation import attest, seal_build
from stages.publish.card import Evidence, render_card
from stages.publish.fetch import find_signature
from stages.publish.keys import blob_key, manifest_key, signature_key
from stages.publish.manifest import MANIFEST, FileEntry, Manifest, canonical_json, name_fault
from stages.publish.provenance import render_provenance
from stages.publish.sbom import render_sbom
from stages.publish.signature import Sealed, Signer, sign
from stages.publish.store import Store
from stages.publish.weights import count_parameters
from stages.publish.window import side_by_side
from stages.shared.artifacts import verify_manifest
from stages.shared.episode.prompt import render_prompt
from stages.shared.episode.roster import make_roster, read_descriptors
from stages.shared.errors import DataError, IntegrityError
from stages.shared.files import read_bytes, sha256
from stages.shared.params import Params
from stages.shared.workspace import Workspace

POLICY, DESCRIPTORS, PARAMS, PROMPT, CARD = "policy", "descriptors.json", "params.json", "prompt.txt", "README.md"
PROVENANCE, SBOM = "provenance.json", "sbom.cdx.json"
METRICS = ("ingest", "profile", "train", "evaluate")
MATERIALS = ("ingest", "profile", "train")
"""The stages whose artifacts a release rests on."""
PARENT = "warm_start"
QUESTION = "{question}"
"""Stands where the question goes, in the prompt that a release shows."""

MOST = 5 << 40
"""Bytes of the largest object of S3."""

Content = bytes | Path


@dataclass(frozen=True)
class Release:
    """What is to be published: the manifest, and where the content of each of its files is."""

    manifest: Manifest
    contents: Mapping[str, Content]


def assemble(params: Params, workspace: Workspace) -> Release:
    """Gather a release from what the stages left. The same inputs give the same digest.

    Raises IntegrityError for artifacts that changed after their stage wrote them, DataError for missing metrics and for
    a policy folder that holds anything but safetensors and plain text.
    """
    for stage in MATERIALS:
        verify_manifest(workspace.artifacts(stage))
    policy = policy_files(workspace.artifacts("train") / POLICY)
    descriptors = workspace.artifacts("profile") / DESCRIPTORS
    metrics = {stage: _metrics(workspace.metrics(stage)) for stage in METRICS}
    prompt = _prompt(params, descriptors)
    evidence = Evidence(
        profile=params.profile_name,
        synthetic=params.pool.kind == "sandbox",
        policy=params.train.policy.kind,
        parameters=count_parameters(policy.values()),
        prompt=prompt,
        metrics={stage: json.loads(data) for stage, data in metrics.items()},
    )
    contents: dict[str, Content] = {f"{POLICY}/{name}": path for name, path in policy.items()}
    contents |= {f"metrics/{stage}.json": data for stage, data in metrics.items()}
    contents |= {
        DESCRIPTORS: descriptors,
        PARAMS: canonical_json(recorded(params)),
        PROMPT: prompt.encode(),
        CARD: render_card(evidence).encode(),
        SBOM: render_sbom(),
    }
    entries = {name: _entry(content) for name, content in contents.items()}
    contents[PROVENANCE] = render_provenance(
        recorded(params), _materials(workspace), {name: entry.sha256 for name, entry in entries.items()}
    )
    entries[PROVENANCE] = _entry(contents[PROVENANCE])
    return Release(Manifest(synthetic=evidence.synthetic, files=dict(sorted(entries.items()))), contents)


def recorded(params: Params) -> dict[str, Any]:
    """The parameters that made the release, without where it is published: the digest is the same in any store."""
    sections = {
        "world": params.world, "ingest": params.ingest, "pool": params.pool, "profile": params.profile,
        "episode": params.episode, "reward": params.reward, "train": params.train, "evaluate": params.evaluate,
    }  # fmt: skip
    dumped = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return {"profile_name": params.profile_name, **dumped}


def policy_files(folder: Path) -> dict[str, Path]:
    """Every file of a policy folder by its name in there. Raises DataError for one that may not be in a release."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop("manifest.json", None)
    if not any(name.endswith(".safetensors") for name in found):
        raise DataError(f"{folder}: no weights in safetensors; run the train stage (`pointsman run`)")
    for name in found:
        if fault := name_fault(name):
            raise DataError(f"{folder / name}: {fault}; remove it, or save the policy with `safe_serialization=True`")
    return found


def publish(
    release: Release,
    store: Store,
    done: Callable[[str], None] = lambda name: None,
    signer: Signer | None = None,
    commit: str | None = None,
) -> bool:
    """Put a release into a store, signed where there is a signer; True when it is new there, False when it was before.

    `commit` is what it was built from, attested beside it. Both are signed before anything is stored: a token that
    proves an identity is over in minutes, and whoever refuses it does so before an upload of hours.

    Every blob is read back and hashed before the manifest, whose creation is the moment of publication: until then
    nothing that `fetch` or a listing looks at has changed. Calls `done` with each file that is safely stored.

    Raises IntegrityError when what the store gives back is not what was put in, and as the signer does.
    """
    manifest, digest = release.manifest.canonical(), release.manifest.digest
    signature = sign(release.manifest, signer) if signer is not None else None
    build = seal_build(digest, commit, signer) if commit is not None else None
    sizes = {name: entry.bytes for name, entry in release.manifest.files.items()}
    for name, _ in side_by_side(lambda name: _store_file(store, release, name), sizes):
        done(name)
    if signature is not None:
        _store_signature(store, release.manifest, signature)
    if build is not None:
        attest(store, digest, build)
    is_new = store.create(manifest_key(digest), manifest, digest)
    _check_stored(store, manifest_key(digest), digest, "the manifest")
    list(side_by_side(lambda name: _create_file(store, release, name), sizes))  # garbage till now, perhaps collected
    return is_new


def _store_file(store: Store, release: Release, name: str) -> None:
    _create_file(store, release, name)
    entry = release.manifest.files[name]
    _check_stored(store, blob_key(entry.sha256), entry.sha256, name)


def _create_file(store: Store, release: Release, name: str) -> bool:
    entry = release.manifest.files[name]
    return store.create(blob_key(entry.sha256), release.contents[name], entry.sha256)


def _store_signature(store: Store, manifest: Manifest, signature: Sealed) -> None:
    """One that the same signer left before is as good: by an identity, no two have the same bytes."""
    place = signature_key(manifest.digest, signature.by.id)
    store.create(place, signature.bundle, hashlib.sha256(signature.bundle).hexdigest())
    try:
        found = find_signature(store, manifest, [signature.by])
    except IntegrityError as error:
        raise IntegrityError(f"{error}; remove {place} there and publish again") from error
    if found is None:
        raise IntegrityError(f"{store.place}: {place} was stored, and is not there; publish again")


def _check_stored(store: Store, key: str, digest: str, name: str) -> None:
    stored = store.hash(key, MOST)
    if stored is None or stored.sha256 != digest:
        raise IntegrityError(
            f"{store.place}: {key} ({name}) does not hold what its name says; objects are never overwritten, "
            "so remove it there and publish again"
        )


def _entry(content: Content) -> FileEntry:
    if isinstance(content, Path):
        return FileEntry(sha256=sha256(content), bytes=content.stat().st_size)
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _materials(workspace: Workspace) -> dict[str, str]:
    """SHA-256 of the manifest that each stage left, which lists every artifact that the release rests on, and of the
    checkpoint that PPO began with.
    """
    paths = [workspace.artifacts(stage) / MANIFEST for stage in MATERIALS]
    paths += sorted((workspace.artifacts("train") / PARENT).glob("*.safetensors"))
    return {path.relative_to(workspace.root).as_posix(): sha256(path) for path in paths}


def _metrics(path: Path) -> bytes:
    try:
        data = read_bytes(path)
        json.loads(data, parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run the stage {path.stem} first (`pointsman run`)") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; run the stage {path.stem} again") from error
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _prompt(params: Params, descriptors: Path) -> str:
    roster = make_roster([each for each in read_descriptors(descriptors) if each.seen])
    return render_prompt(QUESTION, roster, params.episode.prompt, params.episode.max_calls)
