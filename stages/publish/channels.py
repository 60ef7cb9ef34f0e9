"""Channels: names such as `production` that point to a release, and all that they pointed to before.

The pointer holds the newest event whole, and to swap it by comparison is what moves a channel. Every event is also kept
for itself, created once; whoever moves the channel next writes down the event before, where its writer died too early.
So history has no gap and no fork, and each event names the hash of the one before it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.publish.evidence import Check, Text
from stages.publish.manifest import Digest, canonical_json
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, ConflictError, IntegrityError

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
HEX = frozenset("0123456789abcdef")
RESERVED = frozenset({"latest"})
POINTER = re.compile(rf"channels/({NAME.pattern})/pointer\.json")
SCHEMA: Final = "pointsman/channel/1"
Kind = Literal["promotion", "rollback"]
JOURNAL = "git's tags (`git tag -n 'release/*'`) say what it served, and `pointsman promote` moves it all the same"
"""The way on for whoever finds a history broken."""


class Event(BaseModel):
    """A channel was moved to a release."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["pointsman/channel/1"] = SCHEMA
    channel: str
    sequence: Annotated[int, Field(ge=1)]
    """1, 2, 3 … in the order in which the channel was moved."""
    kind: Kind
    digest: Digest
    """The release that the channel serves from now on."""
    previous: Digest | None
    """The release that it served before."""
    parent: Digest | None
    """SHA-256 of the event before this one, as it is stored."""
    actor: Text
    reason: Text
    override: Text | None
    """Why the release was promoted though it fails a gate."""
    evidence: tuple[Check, ...]
    time: str
    """UTC, as in `2026-11-22T03:00:00+00:00`."""
    nonce: str
    """Sets this attempt apart from any other that says the same."""

    def canonical(self) -> bytes:
        """The event as it is stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def told(self) -> str:
        """By whom, to what, when and why, for messages: what others wrote is made inert."""
        from stages.shared.episode.protocol import neutralise

        said = f"by {self.actor} to {self.digest[:16]} at {self.time}" + (f": {self.reason}" if self.reason else "")
        return neutralise(said)

    @property
    def hash(self) -> str:
        """Hex SHA-256 of the event as it is stored."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True)
class Position:
    """Where a channel stood when it was read; both None before its first promotion."""

    channel: str
    event: Event | None
    version: str | None


@dataclass(frozen=True)
class Change:
    """What a mover wants, and says about it."""

    kind: Kind
    digest: str
    actor: str
    reason: str
    override: str | None = None
    evidence: tuple[Check, ...] = ()


def is_channel_name(name: str) -> bool:
    """Whether a name means a channel, not a digest, the first digits of one, or `latest`."""
    return bool(NAME.fullmatch(name)) and name not in RESERVED and not set(name) <= HEX


def check_name(channel: str) -> str:
    """The name. Raises ConfigurationError for one that no channel can have, or that could be a digest."""
    if not is_channel_name(channel):
        raise ConfigurationError(
            f"{channel!r} cannot be a channel: take a letter, then letters, digits and hyphens, "
            "in lower case, as in `production`; not `latest`, nothing that reads as a digest"
        )
    return channel


def list_channels(store: Store) -> list[str]:
    """Every channel of a store, in alphabetical order."""
    return [match[1] for stored in store.entries("channels/") if (match := POINTER.fullmatch(stored.key))]


def read_position(store: Store, channel: str) -> Position:
    """Where a channel stands. Raises IntegrityError for a pointer that is not one."""
    key = pointer_key(check_name(channel))
    found = store.load(key)
    if found is None:
        return Position(channel, None, None)
    try:
        event = _parse(found.content, channel, f"{store.place}: {key}")
    except IntegrityError as error:
        raise IntegrityError(
            f"{error}. Its events are kept one by one, too: put the newest of channels/{channel}/history in its place, "
            "then `pointsman verify`"
        ) from error
    return Position(channel, event, found.version)


def move(store: Store, position: Position, change: Change) -> Event:
    """Move a channel away from `position`.

    Raises ConflictError saying by whom and to what it was moved meanwhile, and then nothing has changed.
    """
    before = position.event
    if before is not None:
        _record(store, before)
    event = Event(
        channel=position.channel,
        sequence=before.sequence + 1 if before else 1,
        kind=change.kind,
        digest=change.digest,
        previous=before.digest if before else None,
        parent=before.hash if before else None,
        actor=change.actor,
        reason=change.reason,
        override=change.override,
        evidence=change.evidence,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        nonce=secrets.token_hex(8),
    )
    if not store.swap(pointer_key(event.channel), event.canonical(), position.version):
        _refuse_unless_ours(store, event)
    _record(store, event)
    return event


def follows(store: Store, event: Event, sequence: int, parent: str) -> bool:
    """Whether a channel's newest event comes after the one of that sequence and hash, in one history."""
    if event.sequence == sequence + 1:
        return event.parent == parent
    return _read_event(store, event.channel, sequence).hash == parent


def read_history(store: Store, channel: str) -> list[Event]:
    """Every event of a channel, oldest first, the pointer's last; it need not have been written down yet.

    Raises IntegrityError where an event is missing, changed, or does not follow the one before it.
    """
    newest = read_position(store, channel).event
    if newest is None:
        return []
    older = [_read_event(store, channel, sequence) for sequence in range(1, newest.sequence)]
    events = [*older, newest]
    for before, after in zip([None, *events], events, strict=False):
        if (after.parent, after.previous) != ((before.hash, before.digest) if before else (None, None)):
            raise IntegrityError(
                f"{store.place}: event {after.sequence} of {channel} does not follow the one before: one of the two is "
                f"not as it was written; {JOURNAL}"
            )
    return events


def repair(store: Store, channel: str) -> bool:
    """Write down the newest event where its writer died before; True where that was needed. Raises IntegrityError."""
    newest = read_position(store, channel).event
    return newest is not None and _record(store, newest)


def before_current(events: list[Event]) -> str | None:
    """The release that a rollback goes to: promotions are a pile, and each rollback takes one off. None: no older."""
    pile: list[str] = []
    for event in events:
        if event.kind == "promotion":
            pile.append(event.digest)
        else:
            del pile[-1:]
    return pile[-2] if len(pile) > 1 else None


def pointer_key(channel: str) -> str:
    """Where the newest event of a channel is."""
    return f"channels/{channel}/pointer.json"


def event_key(channel: str, sequence: int) -> str:
    """Where an event of a channel is kept for good."""
    return f"channels/{channel}/history/{sequence:08d}.json"


def _refuse_unless_ours(store: Store, event: Event) -> None:
    """A swap whose reply was lost looks lost itself when it is sent again: look whether it is our event that won."""
    newest = read_position(store, event.channel).event
    if newest == event:
        return
    if newest is None:
        raise ConflictError(f"{store.place}: the channel {event.channel} was removed meanwhile; look there first")
    if newest.sequence > event.sequence and _read_event(store, event.channel, event.sequence) == event:
        return
    raise ConflictError(
        f"{event.channel} was moved meanwhile: {newest.told} (number {newest.sequence}); nothing was changed, look at "
        "it and try again"
    )


def _record(store: Store, event: Event) -> bool:
    """Keep an event for good; True where it was not yet. Raises IntegrityError where another one has its place."""
    if store.create(event_key(event.channel, event.sequence), event.canonical(), event.hash):
        return True
    if _read_event(store, event.channel, event.sequence) != event:
        raise IntegrityError(
            f"{store.place}: {event_key(event.channel, event.sequence)} tells of another event than the pointer; "
            "somebody wrote past Pointsman: restore the store from a backup"
        )
    return False


def _read_event(store: Store, channel: str, sequence: int) -> Event:
    key = event_key(channel, sequence)
    chunks = store.read(key)
    if chunks is None:
        raise IntegrityError(f"{store.place}: {key} is missing, the history of {channel} has a gap; {JOURNAL}")
    event = _parse(b"".join(chunks), channel, f"{store.place}: {key}")
    if event.sequence != sequence:
        raise IntegrityError(f"{store.place}: {key} holds the event of number {event.sequence}")
    return event


def _parse(content: bytes, channel: str, where: str) -> Event:
    try:
        event = Event.model_validate_json(content)
    except ValidationError as error:
        raise IntegrityError(f"{where} is no event of a channel: {error.errors()[0]['msg']}") from error
    if event.channel != channel or event.canonical() != content:
        raise IntegrityError(f"{where} is not as it was written")
    return event
