"""The journal: each move of a channel as an annotated git tag, as in release/3f9a1c2e/production/000012.

The first part is the store's id: one checkout may promote in several stores, and each has a journal of its own. It
stands beside the store's own events: `git tag -n 'release/*'` lists it, `git push` and `git fetch` share it, and it
says so when the store goes back. A tag is made from its event alone, so that it is the same object on every machine.
All stand on one empty commit of no branch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flows import dvc
from stages.shared.errors import IntegrityError, PipelineError

Event = Mapping[str, Any]
"""A move of a channel, as `pointsman history --json` lists it."""

ROOT = "release"
TAG = re.compile(rf"{ROOT}/(?P<store>[0-9a-f]+)/(?P<channel>[a-z][a-z0-9-]*)/\d{{6,}}")
ANCHOR = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}


def tag_name(store: str, event: Event) -> str:
    """For example `release/3f9a1c2e/production/000012`."""
    return f"{ROOT}/{store}/{event['channel']}/{event['sequence']:06d}"


def write(root: Path, store: str, events: Iterable[Event]) -> list[str]:
    """Write the tags of a store's moves that are not there yet; their names.

    Raises IntegrityError for a tag of that name that tells of another move, PipelineError when git refuses.
    """
    wanted = {tag_name(store, event): event for event in events}
    there = read(root)
    missing = [name for name in wanted if name not in there]
    if missing:
        anchor = _anchor(root)
        for name in missing:
            _tag(root, name, wanted[name], anchor)
    if others := [name for name, event in wanted.items() if there.get(name, _text(event)) != _text(event)]:
        raise IntegrityError(
            f"the journal tells of other moves than the store: {', '.join(others)}. Somebody changed one of them: look "
            f"at both; where it was the tags, run `git tag -d {' '.join(others)}` and `pointsman verify`"
        )
    return missing


def note(root: Path, store: str, event: Event, complain: Callable[[str], None]) -> None:
    """Write the tag of a move that took place: what stands in its way does not undo the move, and is complained of."""
    try:
        write(root, store, [event])
    except PipelineError as error:
        complain(f"{event['channel']} was moved, and the store has it on record, but the journal has not: {error}")


def repair(root: Path, store: str, events: Sequence[Event], *, whole: bool) -> list[str]:
    """Write the tags that are missing of whole histories; their names. `whole`: the store has no other channels.

    Raises IntegrityError as `write` does, and for a move of this store that the journal knows and the store does not.
    """
    written, known = write(root, store, events), {tag_name(store, event) for event in events}
    channels = {str(event["channel"]) for event in events}
    lost = [
        name for name in read(root)
        if (tag := TAG.fullmatch(name)) and tag["store"] == store and name not in known
        and (whole or tag["channel"] in channels)
    ]  # fmt: skip
    if lost:
        raise IntegrityError(
            f"the journal tells of moves that the store does not have: {', '.join(lost)}. The store went back: do not "
            f"use it. Where it was made anew on purpose, run `git tag -d {' '.join(lost)}`"
        )
    return written


def read(root: Path) -> dict[str, str]:
    """The journal: events as JSON, by tag."""
    said = dvc.git_or_raise(root, "for-each-ref", "--format=%(refname:strip=2) %(contents:body)", f"refs/tags/{ROOT}/")
    lines = (line.partition(" ") for line in said.splitlines())
    return {name: text for name, _, text in lines if TAG.fullmatch(name)}


def _anchor(root: Path) -> str:
    """The empty commit that the tags stand on: DVC walks tags, and wants a commit behind each."""
    tree = dvc.git_or_raise(root, "mktree").strip()
    who = {f"GIT_{role}_{part}": "pointsman" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return dvc.git_or_raise(root, "commit-tree", tree, "-m", "Moves of channels", extra=ANCHOR | who).strip()


def _tag(root: Path, name: str, event: Event, anchor: str) -> None:
    said = "".join(letter if letter.isprintable() else " " for letter in str(event["reason"]))
    subject = f"{event['channel']} serves {event['digest'][:16]} ({event['kind']} by {_person(event)}) {said}".strip()
    moment = int(datetime.fromisoformat(event["time"]).timestamp())
    who = {"GIT_COMMITTER_NAME": _person(event), "GIT_COMMITTER_EMAIL": "pointsman"}
    options = ("--annotate", "--no-sign", "--cleanup=verbatim", "--message", f"{subject}\n\n{_text(event)}\n")
    try:
        dvc.git_or_raise(root, "tag", *options, name, anchor, extra=who | {"GIT_COMMITTER_DATE": f"@{moment} +0000"})
    except PipelineError:
        if name not in read(root):
            raise


def _person(event: Event) -> str:
    """Who acted, as git can spell it."""
    kept = "".join(letter for letter in str(event["actor"]) if letter.isprintable() and letter not in "<>")
    return kept.strip(" .,:;\"'\\") or "nobody"


def _text(event: Event) -> str:
    return json.dumps(event, sort_keys=True, separators=(",", ":"))
