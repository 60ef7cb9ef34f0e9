"""An episode as it unfolds: what a client reads as reasoning, and what the page draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.publish.answer import MILLIONTH, rerouted, thoughts, unclear
from stages.shared.episode.protocol import CallRequest, Invalid, neutralise, parse_turn
from stages.shared.episode.types import Episode
from stages.shared.pool.candidate import Candidate, Reply


@dataclass(frozen=True)
class Step:
    """One thing that happened: `text` for people, `detail` for programs. Both are inert, see `neutralise`."""

    text: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Begun:
    """A release took the question up."""

    release: str


@dataclass(frozen=True)
class Ended:
    """The episode is over."""

    release: str
    episode: Episode


Unfolding = Begun | Step | Ended


def turn_steps(text: str) -> list[Step]:
    """What the policy wrote in one turn: its thoughts, and whom it asks what."""
    steps = [Step(f"{thought}\n", {"kind": "thought", "text": thought}) for thought in thoughts(text)]
    action = parse_turn(text)
    if isinstance(action, CallRequest):
        name, query = neutralise(action.shown), neutralise(action.query)
        steps.append(Step(f"→ {name}: {query}\n", {"kind": "call", "candidate": name, "query": query}))
    elif isinstance(action, Invalid):
        said = unclear(action.reason, text)
        steps.append(Step(f"? {said}\n", {"kind": "invalid", "text": said}))
    return steps


def reply_step(candidate: Candidate, reply: Reply) -> Step:
    """What came back from a candidate, with its price and its time."""
    text = reply.outcome.value if reply.outcome.is_failure else neutralise(reply.text)
    cost = reply.cost_total(candidate) * MILLIONTH
    detail = {
        "kind": "reply", "candidate": candidate.name, "outcome": reply.outcome.value, "text": text,
        "cost_usd": cost, "latency_s": reply.latency_s, "answered_by": (reply.instead or candidate).name,
    }  # fmt: skip
    return Step(f"← {text} ({rerouted(candidate, reply)}${cost:.6f}, {reply.latency_s:.2f} s)\n", detail)


def call_records(episode: Episode) -> list[dict[str, Any]]:
    """Every call of an episode, for programs. Costs in dollars, prompt tokens included."""
    return [
        {
            "candidate": call.name, "query": call.query, "reply": call.reply.text, "outcome": call.reply.outcome.value,
            "latency_s": call.reply.latency_s, "cost_usd": call.cost_total * MILLIONTH,
            "answered_by": call.answered_by,
        }
        for call in episode.calls
    ]  # fmt: skip


def dollars(episode: Episode) -> float:
    """What an episode's calls cost, prompt tokens included."""
    return sum(call.cost_total for call in episode.calls) * MILLIONTH
