"""What a release manager sees: tables, or one JSON value for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.publish.channels import Event, Position
from stages.publish.promotion import Examination
from stages.publish.verification import Report

if TYPE_CHECKING:
    from rich.console import Console

DIGITS = 16
"""Of a digest, shown to people."""
PIPED = 1000
"""Columns where no terminal sets them: a row is a line, and nothing is cut off."""


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


@dataclass(frozen=True)
class Printer:
    """Prints what a command found or did."""

    as_json: bool
    console: Console = field(default_factory=_console)

    def releases(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Every release, one a line."""
        if self.as_json:
            self._dump(found)
        elif not found:
            self.console.print("No release yet: pointsman run")
        else:
            self._table(
                ("release", "profile", "EM (average)", "cost", "MiB", "signed", "served by"),
                [_row(each) for each in found],
            )

    def release(self, found: Mapping[str, Any]) -> None:
        """One release."""
        if self.as_json:
            self._dump(found)
            return
        note = ", synthetic" if found["synthetic"] else ""
        self.console.print(f"release {found['digest']}, profile {_inert(found['profile'])}{note}")
        for signature in found["signatures"] or [{}]:
            self.console.print(f"signed by: {_signer(signature)}")
        self.console.print(f"served by: {', '.join(found['channels']) or 'no channel'}")
        for build in found["built_from"]:
            commit, changed = build["commit"].rstrip("+"), ", with changes" * build["commit"].endswith("+")
            signed = f"signed ({build['signer']})" if build["signer"] else "without a trusted signature"
            self.console.print(f"built from: commit {commit}{changed}; attested, {signed}")
        self.console.print(f"router, average: {_measured(found['router'])}")
        rows = [(name, str(entry["bytes"]), entry["sha256"][:DIGITS]) for name, entry in found["files"].items()]
        self._table(("file", "bytes", "sha256"), rows)

    def events(self, events: Sequence[Event]) -> None:
        """The history of a channel."""
        if self.as_json:
            self._dump([event.model_dump(mode="json") for event in events])
            return
        rows = [
            (str(each.sequence), _time(each), each.kind, each.digest[:DIGITS], each.actor, _said(each))
            for each in events
        ]
        self._table(("", "time", "what", "release", "by", "why"), rows)

    def examination(self, examination: Examination) -> None:
        """The evidence for a promotion."""
        served = examination.position.event
        if self.as_json:
            self._dump({
                "digest": examination.digest,
                "channel": examination.position.channel,
                "serves": served.digest if served else None,
                "sequence": served.sequence if served else 0,
                "passed": not examination.failed,
                "note": examination.note,
                "evidence": [check.model_dump() for check in examination.checks],
            })  # fmt: skip
            return
        self.console.print(f"release {examination.digest[:DIGITS]} for {examination.position.channel}")
        if examination.note:
            self.console.print(examination.note)
        if not examination.checks:
            self.console.print("the channel asks for nothing (infra/gates.yaml)")
            return
        rows = [
            (each.gate, each.wanted, each.found, "passes" if each.passed else "FAILS") for each in examination.checks
        ]
        self._table(("gate", "wanted", "found", ""), rows)

    def would_move(self, examination: Examination) -> None:
        """It was only asked what would happen, and it would."""
        if self.as_json:
            return
        channel, served = examination.position.channel, examination.position.event
        if examination.is_served:
            self.console.print(f"{channel} serves it already; nothing was changed")
            return
        before, how = served.digest[:DIGITS] if served else "nothing", ", by override" * bool(examination.failed)
        self.console.print(f"{channel} would serve it{how}, and serves {before}; nothing was changed")

    def would_go_back(self, position: Position, digest: str) -> None:
        """It was only asked where a rollback would lead."""
        served = position.event
        if self.as_json:
            event = served.model_dump(mode="json") if served else None
            self._dump({"channel": position.channel, "digest": digest, "event": event})
            return
        before = served.digest[:DIGITS] if served else "nothing"
        would = f"{position.channel} would serve {digest[:DIGITS]}, and serves {before}"
        self.console.print(f"{would}; nothing was changed")

    def moved(self, event: Event, was_served: bool, store: str) -> None:
        """A channel was moved, or was there already; `store` is the id of its store."""
        if self.as_json:
            self._dump({"changed": not was_served, "store": store, "event": event.model_dump(mode="json")})
            return
        if was_served:
            self.console.print(f"{event.channel} serves {event.digest[:DIGITS]} already; nothing was changed")
            return
        before = event.previous[:DIGITS] if event.previous else "nothing"
        way = ""
        if event.previous:
            again = f"promote {event.previous[:DIGITS]} --to {event.channel}"
            way = f". Back: pointsman {again if event.kind == 'rollback' else f'rollback {event.channel}'}"
        self.console.print(
            f"{event.channel} serves {event.digest[:DIGITS]} now (number {event.sequence}); before: {before}{way}"
        )

    def report(self, report: Report) -> None:
        """What a verification found."""
        if self.as_json:
            known = {name: value for name, value in asdict(report).items() if name != "events"}
            self._dump(known)
            return
        for fault in report.faults:
            self.console.print(fault, style="red")
        for channel in report.repaired:
            self.console.print(f"{channel}: the newest event was written down, its writer had died before")
        verdict = "faults found" if report.faults else "everything is what it says"
        looked_at = f"{_count(len(report.releases), 'release')}, {_count(len(report.channels), 'channel')}"
        self.console.print(f"{looked_at}: {verdict}")

    def pulled(self, digest: str, folder: Path, signer: str | None) -> None:
        """A release is in a folder."""
        if self.as_json:
            self._dump({"digest": digest, "folder": str(folder), "signer": signer})
            return
        signed = f", signed ({signer})" if signer else ""
        self.console.print(f"release {digest[:DIGITS]} is in {folder}, verified{signed}")

    def garbage(self, keys: Sequence[str], size: int, dry_run: bool) -> None:
        """What was collected."""
        if self.as_json:
            self._dump({"removed": not dry_run, "bytes": size, "keys": list(keys)})
            return
        word = "would be removed" if dry_run else "removed"
        belong = "belongs" if len(keys) == 1 else "belong"
        found = _count(len(keys), "object")
        self.console.print(f"{found} that {belong} to no release {word}, {size / (1 << 20):.1f} MiB")

    def keys(self, path: Path) -> None:
        """A pair of keys was made."""
        if self.as_json:
            self._dump({"private": str(path), "public": f"{path}.pub"})
            return
        self.console.print(
            f"private key: {path} (keep it out of git; POINTSMAN_SIGNING_KEY={path} signs releases)\n"
            f"public key: {path}.pub (commit a copy, and name it in infra/gates.yaml under signed_by)"
        )

    def _dump(self, value: Any) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def _table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*map(_inert, row))
        self.console.print(table)


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    digest, channels = found["digest"][:DIGITS], ", ".join(found["channels"])
    if "fault" in found:
        return digest, "DAMAGED", "?", "?", "?", "?", channels
    router = found["router"]
    signed = "yes" if found["signed_by"] else "no"
    size = f"{found['bytes'] / (1 << 20):.1f}"
    return digest, found["profile"], _number(router, "em", 3), _number(router, "cost", 1), size, signed, channels


BOUNDS = ("_low", "_high")


def _measured(values: Mapping[str, Any]) -> str:
    """Every number of a method once, its interval behind it."""
    numbers = {name: f"{value:.4g}" for name, value in values.items() if isinstance(value, (int, float))}
    said: list[str] = []
    for name, value in numbers.items():
        low, high = (numbers.get(f"{name}{bound}") for bound in BOUNDS)
        if not name.endswith(BOUNDS):
            said.append(f"{name} {value}" + (f" ({low} to {high})" if low and high else ""))
    return ", ".join(said) or "nothing"


def _number(values: Mapping[str, Any], name: str, digits: int) -> str:
    return f"{values[name]:.{digits}f}" if isinstance(values.get(name), (int, float)) else "?"


def _signer(signature: Mapping[str, Any]) -> str:
    if not signature:
        return "nobody"
    said = " (trusted, checked)" if signature["trusted"] else " (no channel trusts it: not checked)"
    if signature["identity"] is None:
        return f"key {signature['id'] or '(what is there is no signature)'}{said}"
    log = f"log index {signature['log_index']}, {signature['logged']}"
    return f"{signature['identity']}, issuer {signature['issuer']}, {log}{said}"


def _inert(text: object) -> str:
    """What others wrote into a store says nothing to a terminal."""
    from stages.shared.episode.protocol import neutralise

    return neutralise(str(text))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _time(event: Event) -> str:
    return event.time.replace("T", " ").replace("+00:00", "Z")


def _said(event: Event) -> str:
    return event.reason + (f" (override: {event.override})" if event.override else "")
