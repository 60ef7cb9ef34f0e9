"""How a call is worded: as a teacher demonstrates it, and as it is written for a policy that answers from a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stages.shared.episode.prompt import cell
from stages.shared.episode.protocol import neutralise
from stages.shared.episode.types import RosterEntry

THEN, NOW = "then", "now"


def call_turn(
    topic: str,
    entry: RosterEntry,
    query: str,
    style: Literal["compact", "prose"],
    rest: Sequence[str] = (),
    tried: Sequence[RosterEntry] = (),
    now: str = "",
) -> str:
    """A call of a candidate that the prompt shows: the thought that leads to it, and the query, made inert.

    The compact style also says who was asked the same before and had no answer (`tried`), what an earlier thought said
    would come (`now`, where no reply gives it), and the steps that are still to come (`rest`).
    """
    asked = neutralise(" ".join(query.split()))
    if style == "compact":
        remarks = [f"{NOW} {now}"] if now else []
        remarks += [f"{THEN} {step}" for step in rest]
        return compact_call(topic, (*tried, entry), asked, remarks)
    skill = entry.descriptor.skill.get(topic)
    return prose_call(topic, None if skill is None else skill.em, entry.shown, asked)


def compact_call(topic: str, entries: Sequence[RosterEntry], query: str, remarks: Sequence[str]) -> str:
    """The thought copies cells of one line of the prompt's table, as in `topic stone , 6 95 Arlix`, the last of them
    the one called, and ends on the remarks. So whoever is asked next is the next in the line.
    """
    thought = " , ".join((f"topic {topic}", *(cell(topic, entry) for entry in entries), *remarks))
    return f"<think> {thought} </think> <search> {entries[-1].shown} : {query} </search>"


def prose_call(topic: str, skill: float | None, shown: str, query: str) -> str:
    """The thought says why help is needed, and which model fits. An unmeasured skill is None."""
    known = "may know it" if skill is None else f"answered {100 * skill:.0f}% of those right"
    thought = f"I do not know this for certain. It is a {topic} question, and {shown} {known}, so I ask {shown}."
    return f"<think> {thought} </think>\n<search> {shown}: {query} </search>"
