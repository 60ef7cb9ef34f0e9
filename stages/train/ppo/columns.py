"""Our own column of verl's rows: the roster of a question, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from stages.shared.episode.types import Roster, RosterEntry
from stages.shared.pool.candidate import Descriptor


def dump_roster(roster: Roster) -> str:
    """Shown name and candidate of every entry, in the prompt's order, as JSON."""
    return json.dumps([[entry.shown, entry.name] for entry in roster.entries])


def parse_roster(text: str, descriptors: Mapping[str, Descriptor]) -> Roster:
    """The inverse of `dump_roster`."""
    return Roster(tuple(RosterEntry(shown, name, descriptors[name]) for shown, name in json.loads(text)))
