"""The highest event of each channel that this machine has seen: whoever holds the store cannot take it back unseen."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.publish.channels import Event, Position, follows, read_position
from stages.publish.store import Store
from stages.shared.errors import IntegrityError
from stages.shared.files import read_json, write_json


class Seen(BaseModel):
    """The newest event of a channel that was seen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sequence: int
    hash: str


class Memory:
    """What was seen of one store, in a file that is read and written under a lock."""

    def __init__(self, state: Path, store_name: str) -> None:
        """`store_name` is the same in every process, see `stages.publish.endpoint.store_name`."""
        self._store_name = store_name
        self._path = state / "channels" / f"{hashlib.sha256(store_name.encode()).hexdigest()[:16]}.json"

    def observe(self, store: Store, channel: str) -> Position:
        """Where a channel stands. Raises IntegrityError when that is older than what was seen, or another history."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            position = read_position(store, channel)
            known = self._read()
            if (fault := _fault(store, known.get(channel), position.event)) is not None:
                raise IntegrityError(
                    f"{store.place}: {channel} {fault}; somebody took it back behind Pointsman's back. Do not use it. "
                    f"Where the store was made anew on purpose, remove {self._path}"
                )
            if position.event is not None:
                seen = Seen(sequence=position.event.sequence, hash=position.event.hash)
                if seen != known.get(channel):
                    self._write({**known, channel: seen})
        return position

    def channels(self) -> list[str]:
        """The channels that were seen: whoever removes one whole cannot do it unseen either. Raises IntegrityError."""
        return sorted(self._read())

    def _read(self) -> dict[str, Seen]:
        try:
            raw = read_json(self._path)["channels"]
            return {channel: Seen.model_validate(value) for channel, value in raw.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, ValidationError, LookupError, AttributeError, TypeError) as error:
            raise IntegrityError(
                f"{self._path} does not say which events were seen ({error!r}); remove it to trust the store as it is"
            ) from error

    def _write(self, known: dict[str, Seen]) -> None:
        channels = {channel: seen.model_dump() for channel, seen in known.items()}
        write_json(self._path, {"store": self._store_name, "channels": channels})


def _fault(store: Store, seen: Seen | None, event: Event | None) -> str | None:
    if seen is None:
        return None
    if event is None:
        return f"is gone, and was at number {seen.sequence} before"
    if event.sequence < seen.sequence:
        return f"is at number {event.sequence}, and was at {seen.sequence} before"
    if event.sequence == seen.sequence and event.hash != seen.hash:
        return f"has another event of number {event.sequence} than was seen before"
    try:
        if event.sequence > seen.sequence and not follows(store, event, seen.sequence, seen.hash):
            return f"came to number {event.sequence} by another history than was seen up to number {seen.sequence}"
    except IntegrityError:
        return f"has lost its event of number {seen.sequence}, which was seen before"
    return None
