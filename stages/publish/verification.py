"""Whether everything in a store is what it says: releases, signatures, and the history of every channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stages.publish.attestation import read_builds
from stages.publish.channels import Event, is_channel_name, list_channels, read_history, repair
from stages.publish.fetch import check_claims, find_signature, list_releases, read_manifest, verify_stored
from stages.publish.identity import identify, read_identity
from stages.publish.promotion import Desk, find
from stages.publish.signature import Trusted
from stages.publish.store import Store
from stages.publish.trust import load_trusted
from stages.shared.errors import IntegrityError


@dataclass(frozen=True)
class Report:
    """What was looked at, what is wrong, and what was put right."""

    releases: tuple[str, ...]
    channels: tuple[str, ...]
    faults: tuple[str, ...]
    repaired: tuple[str, ...]
    store: str | None = None
    """The id of the store; None where that was changed, or nothing was ever moved."""
    events: tuple[Event, ...] = ()
    """Every move of the channels whose history is whole."""


def verify(desk: Desk, name: str | None, done: Callable[[str], None] = lambda digest: None) -> Report:
    """Hash everything again: a release, a channel with what it serves, or the whole store.

    A newest event whose writer died before it was written down is written down. Raises ConfigurationError for a name
    that means nothing.
    """
    everywhere = sorted({*list_channels(desk.store), *desk.memory.channels()}) if name is None else []
    channels = everywhere or ([name] if name is not None and is_channel_name(name) else [])
    faults, repaired, wanted = [], [], list_releases(desk.store) if name is None else []
    moves: list[Event] = []
    for channel in channels:
        try:
            if repair(desk.store, channel):
                repaired.append(channel)
            events = read_history(desk.store, channel)
            wanted += [event.digest for event in reversed(events)]
            moves += events
            find(desk, channel)
        except IntegrityError as error:
            faults.append(str(error))
    if name is not None and not channels:
        wanted.append(find(desk, name).digest)
    releases, trusted = tuple(dict.fromkeys(wanted)), all_trusted(desk)
    for digest in releases:
        faults += verify_stored(desk.store, digest) or _signature_faults(desk, digest, trusted)
        done(digest)
    store = _identity(desk.store, faults, make=bool(moves))
    return Report(releases, tuple(channels), tuple(dict.fromkeys(faults)), tuple(repaired), store, tuple(moves))


def _identity(store: Store, faults: list[str], *, make: bool) -> str | None:
    try:
        return identify(store) if make else read_identity(store)
    except IntegrityError as error:
        faults.append(str(error))
        return None


def all_trusted(desk: Desk) -> list[Trusted]:
    """Every key and identity that any channel trusts."""
    policies = desk.policies()
    named = {each for policy in (*policies.channels.values(), policies.other) for each in policy.signed_by}
    return load_trusted(desk.root, sorted(named, key=str))


def _signature_faults(desk: Desk, digest: str, trusted: list[Trusted]) -> list[str]:
    try:
        manifest = read_manifest(desk.store, digest)
        for each in trusted:
            find_signature(desk.store, manifest, [each])
        check_claims(desk.store, manifest)
        read_builds(desk.store, digest, trusted)
    except IntegrityError as error:
        return [str(error)]
    return []
