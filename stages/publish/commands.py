"""What a release manager's commands do with a store (stages/publish/manage.py reads the command line)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from stages.publish.attestation import read_builds
from stages.publish.channels import Event, list_channels, read_history
from stages.publish.fetch import (
    bring,
    find_signature,
    list_claims,
    list_releases,
    read_json,
    read_manifest,
)
from stages.publish.garbage import collect
from stages.publish.gates import AVERAGE, table
from stages.publish.identity import identify
from stages.publish.keys import signatures_of
from stages.publish.manifest import Manifest
from stages.publish.printing import Printer
from stages.publish.promotion import (
    EVALUATION,
    Desk,
    examine,
    find,
    promote,
    refuse_failed,
    refuse_moved,
    roll_back,
    way_back,
)
from stages.publish.signature import Trusted
from stages.publish.verification import all_trusted, verify
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import write_json
from stages.shared.workspace import Workspace

Command = Callable[[Desk, argparse.Namespace, Printer], None]
LONGEST_AGE = 36500
"""Days."""


def releases(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Every release, newest first. Raises IntegrityError, after they were listed, for what cannot be read."""
    served, faults = _served(desk)
    found: list[dict[str, object]] = []
    for digest in list_releases(desk.store):
        try:
            found.append(_summary(desk, digest, served))
        except IntegrityError as error:
            faults.append(str(error))
            found.append({"digest": digest, "fault": str(error), "channels": _channels(served, digest)})
    printer.releases(found)
    _refuse(faults)


def show(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """One release: what is in it, what it measured, which channels serve it."""
    digest = find(desk, given.name).digest
    manifest = read_manifest(desk.store, digest)
    files = {name: entry.model_dump() for name, entry in manifest.files.items()}
    served, faults = _served(desk)
    trusted = all_trusted(desk)
    builds = [asdict(build) for build in read_builds(desk.store, digest, trusted)]
    signatures = _signatures(desk, manifest, trusted)
    printer.release({**_summary(desk, digest, served), "files": files, "signatures": signatures, "built_from": builds})
    _refuse(faults)


def history(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Every move of a channel, newest first."""
    desk.memory.observe(desk.store, given.channel)
    events = read_history(desk.store, given.channel)
    if not events:
        known = ", ".join(list_channels(desk.store)) or "none yet"
        raise ConfigurationError(
            f"{desk.store.place} has no channel {given.channel!r}; there are: {known}; `pointsman promote` makes one"
        )
    printer.events(events[::-1])


def check(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Hash everything again. Raises IntegrityError when something is not what it says."""
    report = verify(desk, given.name)
    if report.store is not None:
        _leave(given.events, report.store, report.events)
    printer.report(report)
    if report.faults:
        raise IntegrityError(f"{len(report.faults)} fault(s) found; do not use what they name")


def move(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Promote, on evidence. Raises DataError where a gate fails and is not overridden."""
    examination = examine(desk, given.name, given.to)
    refuse_moved(examination.position, given.expect)
    ends_here = given.dry_run or (examination.failed and given.override is None)
    if ends_here or not given.json:
        printer.examination(examination)
    refuse_failed(examination, given.override)
    if given.dry_run:
        printer.would_move(examination)
    else:
        store = identify(desk.store)
        event = promote(desk, examination, given.reason, given.override)
        _tell(store, given, printer, event, was_served=examination.is_served)


def rollback(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Take the newest promotion back."""
    if given.dry_run:
        printer.would_go_back(*way_back(desk, given.channel, given.expect))
        return
    store = identify(desk.store)
    event = roll_back(desk, given.channel, given.reason, given.expect)
    _tell(store, given, printer, event, was_served=False)


def pull(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Download a release, verified; it takes the place of another. Raises ConfigurationError for a folder in use."""
    found = find(desk, given.name)
    folder: Path = given.to or Workspace(desk.root).state / "releases" / found.digest
    bring(desk.store, found.digest, folder, found.signed)
    printer.pulled(found.digest, folder, found.signed.signer if found.signed else None)


def clear(desk: Desk, given: argparse.Namespace, printer: Printer) -> None:
    """Remove what belongs to no release."""
    if not 0 <= given.older_than <= LONGEST_AGE:
        raise ConfigurationError(f"--older-than is {given.older_than}; give days, from 0 to {LONGEST_AGE}")
    garbage = collect(desk.store, timedelta(days=given.older_than), dry_run=given.dry_run)
    printer.garbage([stored.key for stored in garbage], sum(stored.bytes for stored in garbage), given.dry_run)


COMMANDS: dict[str, Command] = {
    "releases": releases, "show": show, "history": history, "verify": check, "promote": move, "rollback": rollback,
    "pull": pull, "collect": clear,
}  # fmt: skip


def _tell(store: str, given: argparse.Namespace, printer: Printer, event: Event, *, was_served: bool) -> None:
    _leave(given.events, store, [event])
    printer.moved(event, was_served, store)


def _leave(path: Path | None, store: str, events: Sequence[Event]) -> None:
    """For whoever keeps a journal of them beside the store's (flows/journal.py)."""
    if path is not None:
        write_json(path, {"store": store, "events": [event.model_dump(mode="json") for event in events]})


def _signatures(desk: Desk, manifest: Manifest, trusted: Sequence[Trusted]) -> list[dict[str, object]]:
    """Who says that they signed it, and who of them was checked, because some channel trusts them."""
    checked = {each.id: find_signature(desk.store, manifest, [each]) for each in trusted}
    return [
        {**asdict(claim), "trusted": claim.id in checked and checked[claim.id] is not None}
        for claim in list_claims(desk.store, manifest.digest)
    ]


def _summary(desk: Desk, digest: str, served: Mapping[str, Event]) -> dict[str, object]:
    manifest = read_manifest(desk.store, digest)
    evaluation = read_json(desk.store, manifest, EVALUATION)
    router = table(evaluation, "methods", "router", AVERAGE)
    signatures = [stored.key for stored in desk.store.entries(signatures_of(digest))]
    return {
        "digest": digest,
        "profile": read_json(desk.store, manifest, "params.json").get("profile_name"),
        "synthetic": manifest.synthetic,
        "bytes": manifest.size,
        "router": router,
        "signed_by": [key.rpartition("/")[2].removesuffix(".json") for key in signatures],
        "channels": _channels(served, digest),
    }


def _served(desk: Desk) -> tuple[dict[str, Event], list[str]]:
    """The newest event of every channel, and what is wrong with the others."""
    served: dict[str, Event] = {}
    faults: list[str] = []
    for channel in list_channels(desk.store):
        try:
            event = desk.memory.observe(desk.store, channel).event
        except IntegrityError as error:
            faults.append(str(error))
            continue
        if event is not None:
            served[channel] = event
    return served, faults


def _channels(served: Mapping[str, Event], digest: str) -> list[str]:
    return [channel for channel, event in served.items() if event.digest == digest]


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise IntegrityError("; ".join(faults))
