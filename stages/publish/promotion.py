"""To promote a release to a channel on evidence, to take it back, and to find the release that a name means."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stages.publish.channels import (
    Change,
    Event,
    Position,
    before_current,
    check_name,
    is_channel_name,
    list_channels,
    move,
    read_history,
)
from stages.publish.endpoint import open_store, store_name
from stages.publish.evidence import Check
from stages.publish.fetch import (
    Signed,
    find_missing,
    find_signature,
    list_claims,
    read_json,
    read_manifest,
    resolve,
)
from stages.publish.gates import Metrics, Policies, Policy, evaluate, load_policies
from stages.publish.manifest import Manifest
from stages.publish.memory import Memory
from stages.publish.smoke import smoke_checks
from stages.publish.store import Store
from stages.publish.trust import load_trusted
from stages.shared.errors import ConfigurationError, ConflictError, DataError, IntegrityError
from stages.shared.params import Params
from stages.shared.workspace import Workspace

ACTOR_ENV = "POINTSMAN_ACTOR"
EVALUATION = "metrics/evaluate.json"


@dataclass(frozen=True)
class Desk:
    """What a release manager works with: the store, what was seen of it before, and the checkout with the policy."""

    store: Store
    memory: Memory
    root: Path

    @classmethod
    def at(cls, store: Store, params: Params, workspace: Workspace) -> Self:
        """The desk of a checkout, at the store that its parameters name."""
        return cls(store, Memory(workspace.state, store_name(params.publish, workspace.state)), workspace.root)

    def policies(self) -> Policies:
        """What every channel asks of a release. Raises ConfigurationError for a file that cannot be meant."""
        return load_policies(self.root)


@dataclass(frozen=True)
class Found:
    """The release that a name means, and its signature where the channel requires one."""

    digest: str
    signed: Signed | None = None
    event: Event | None = None
    """The channel's newest, where the name is a channel's."""


@dataclass(frozen=True)
class Examination:
    """A release before a channel's gates, and where the channel stood meanwhile."""

    digest: str
    position: Position
    checks: tuple[Check, ...]
    note: str = ""
    """What else whoever decides should know."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The gates that it does not pass."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def is_served(self) -> bool:
        """Whether the channel serves it already."""
        return self.position.event is not None and self.position.event.digest == self.digest


@contextmanager
def open_desk(params: Params, workspace: Workspace) -> Iterator[Desk]:
    """A desk at the configured store. Raises as `open_store` does."""
    with open_store(params.publish, workspace.state) as store:
        yield Desk.at(store, params, workspace)


def find(desk: Desk, name: str) -> Found:
    """The release that a channel serves, or that a digest, its first digits or `latest` mean.

    Raises ConfigurationError when there is none, IntegrityError for a channel that went back, or whose release is not
    signed as the channel's policy requires.
    """
    if not is_channel_name(name):
        return Found(resolve(desk.store, name))
    event = desk.memory.observe(desk.store, name).event
    if event is None:
        raise _no_channel(desk, name)
    policy = desk.policies().of(name)
    signed = _signature(desk, policy, _read_served(desk, event))
    if policy.signed_by and signed is None:
        raise IntegrityError(f"{name} serves {_unsigned(desk, policy, event.digest)}; do not use it")
    return Found(event.digest, signed, event)


def examine(desk: Desk, name: str, channel: str) -> Examination:
    """Hold a release against a channel's policy; its smoke questions are asked last, where it passes all else.

    Raises IntegrityError for a release with missing or changed files.
    """
    check_name(channel)
    policies = desk.policies()
    policy = policies.of(channel)
    digest = find(desk, name).digest
    manifest = read_manifest(desk.store, digest)
    _require_whole(desk.store, manifest)
    position = desk.memory.observe(desk.store, channel)
    served = _evaluation(desk.store, position.event.digest) if position.event else None
    signed = _signature(desk, policy, manifest)
    metrics = read_json(desk.store, manifest, EVALUATION)
    claims = [str(claim) for claim in list_claims(desk.store, digest)] if policy.signed_by and not signed else []
    checks = evaluate(policy, metrics, served, signed.signer if signed else None, claims)
    passes = all(check.passed for check in checks)
    asked = smoke_checks(policy.smoke, desk.store, digest, desk.root, passes=passes)
    return Examination(digest, position, checks + asked, policies.note(channel))


def refuse_moved(position: Position, sequence: int | None) -> None:
    """Raise ConflictError unless the channel stands where somebody saw it who decided then; None: nobody did."""
    event = position.event
    if sequence is None or sequence == (event.sequence if event else 0):
        return
    said = event.told if event else "away"
    raise ConflictError(
        f"{position.channel} is no more at number {sequence}: it was moved {said}; nothing was changed, decide again"
    )


def refuse_failed(examination: Examination, override: str | None) -> None:
    """Raise DataError naming the gates that a release fails, unless they are overridden with a reason."""
    if override is not None and not override.strip():
        raise ConfigurationError("--override needs a reason; it is kept in the history of the channel")
    if examination.failed and override is None:
        faults = "; ".join(f"{check.gate}: {check.found}, not {check.wanted}" for check in examination.failed)
        raise DataError(
            f"release {examination.digest[:16]} may not go to {examination.position.channel}: {faults}. Nothing was "
            "changed; promote another, or give `--override REASON`, which is recorded"
        )


def promote(desk: Desk, examination: Examination, reason: str, override: str | None = None) -> Event:
    """Move a channel to a release that was examined; already there, nothing is done.

    Raises DataError for a release that fails a gate, ConflictError when the channel was moved since the examination.
    """
    refuse_failed(examination, override)
    if examination.is_served and examination.position.event is not None:
        return examination.position.event
    needed = override if examination.failed else None
    change = Change("promotion", examination.digest, actor(), reason, needed, examination.checks)
    return _move(desk, examination.position, change)


def roll_back(desk: Desk, channel: str, reason: str, expect: int | None = None) -> Event:
    """Move a channel back to the release that it served before the newest promotion that still stands.

    Raises as `way_back`, and ConflictError when the channel was moved meanwhile.
    """
    position, digest = way_back(desk, channel, expect)
    return _move(desk, position, Change("rollback", digest, actor(), reason))


def way_back(desk: Desk, channel: str, expect: int | None = None) -> tuple[Position, str]:
    """Where a channel stands, and the release that a rollback would let it serve.

    `expect` is the number at which the channel must stand. Raises ConfigurationError when there is no such release,
    ConflictError when the channel stands elsewhere, IntegrityError for a release with missing files, or without a
    signature that the channel requires by now.
    """
    position = desk.memory.observe(desk.store, check_name(channel))
    refuse_moved(position, expect)
    if position.event is None:
        raise _no_channel(desk, channel)
    digest = before_current(read_history(desk.store, channel))
    if digest is None:
        raise ConfigurationError(f"{channel} has no release to go back to; see `pointsman history {channel}`")
    manifest, policy = read_manifest(desk.store, digest), desk.policies().of(channel)
    _require_whole(desk.store, manifest)
    if policy.signed_by and _signature(desk, policy, manifest) is None:
        raise IntegrityError(
            f"{channel} served {_unsigned(desk, policy, digest)}: servers would refuse it, and stay where they are; "
            f"promote another (`pointsman releases`), or sign this one by publishing it again with a trusted key"
        )
    return position, digest


def _no_channel(desk: Desk, name: str) -> ConfigurationError:
    known = ", ".join(list_channels(desk.store)) or "none yet; `pointsman promote` makes one"
    return ConfigurationError(f"{desk.store.place} has no channel {name!r}; there are: {known}")


def _read_served(desk: Desk, event: Event) -> Manifest:
    try:
        return read_manifest(desk.store, event.digest)
    except ConfigurationError as error:
        raise IntegrityError(
            f"{event.channel} serves {event.digest[:16]}, which {desk.store.place} holds no more; publish it again, or "
            f"`pointsman rollback {event.channel}`"
        ) from error


def actor() -> str:
    """Who acts: $POINTSMAN_ACTOR, or the user and the machine."""
    if given := os.environ.get(ACTOR_ENV):
        return given
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _move(desk: Desk, position: Position, change: Change) -> Event:
    event = move(desk.store, position, change)
    desk.memory.observe(desk.store, event.channel)
    return event


def _evaluation(store: Store, digest: str) -> Metrics:
    """What the served release has measured; nothing where it is damaged, which must not stop its replacement."""
    try:
        return read_json(store, read_manifest(store, digest), EVALUATION)
    except (IntegrityError, ConfigurationError):
        return {}


def _signature(desk: Desk, policy: Policy, manifest: Manifest) -> Signed | None:
    return find_signature(desk.store, manifest, load_trusted(desk.root, policy.signed_by))


def _unsigned(desk: Desk, policy: Policy, digest: str) -> str:
    trusted = ", ".join(map(str, policy.signed_by))
    found = ", ".join(map(str, list_claims(desk.store, digest))) or "nobody"
    return f"{digest[:16]}, not signed as required (by {trusted}), but by {found}"


def _require_whole(store: Store, manifest: Manifest) -> None:
    if missing := find_missing(store, manifest):
        raise IntegrityError(
            f"{store.place}: release {manifest.digest[:16]} is not whole ({', '.join(missing)}); "
            "publish it again, then `pointsman verify`"
        )
