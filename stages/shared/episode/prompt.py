"""The user message that opens an episode: candidates described, question asked."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

from stages.shared.episode.protocol import neutralise
from stages.shared.episode.types import Roster, RosterEntry

_INSTRUCTIONS = """\
Answer the question at the end. You may ask the language models listed below for help before you answer.

How to work:
- First think, inside <think> and </think>. Think again each time you have received new information.
- To ask a model, write <search> Model-Name: query </search>. Use one of the listed names exactly as it is written, \
and a concrete, self-contained query of your own; never a placeholder.
- Before each call, reason about what you still do not know and which model is the best for it: look at its measured \
performance, its price and its speed.
- The model's reply arrives between <information> and </information>. Do not write these two tags yourself. \
A reply can be wrong.
- You may call several times, at most {max_calls}. To ask different models about different parts of a hard question \
is encouraged.
- When you know the answer, give it alone, in a few words and with no explanation, inside <answer> and </answer>. \
Nothing may follow it.

The models:
"""


class ChatTokenizer(Protocol):
    """A tokenizer that has a chat template."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """The conversation as token ids."""
        ...


def render_prompt(question: str, roster: Roster, style: Literal["compact", "prose"], max_calls: int = 4) -> str:
    """The user message: a table for a small policy (`compact`), or instructions in prose (paper, appendix)."""
    asked = neutralise(" ".join(question.split()))
    return _compact(asked, roster) if style == "compact" else _prose(asked, roster, max_calls)


def chat_ids(tokenizer: ChatTokenizer, message: str) -> list[int]:
    """Token ids of one user message in the tokenizer's own chat template, up to where the policy begins to write."""
    conversation = [{"role": "user", "content": message}]
    ids = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True, return_dict=False)
    return [int(token) for token in ids]


def topics(roster: Roster) -> list[str]:
    """Every topic that any candidate of the roster was measured on, sorted."""
    return sorted({topic for entry in roster.entries for topic in entry.descriptor.skill})


def percent(topic: str, entry: RosterEntry) -> int:
    """Measured skill, in percent rounded to the nearest 5; 0 where it was not measured."""
    skill = entry.descriptor.skill.get(topic)
    return 0 if skill is None else 5 * _nearest(20 * skill.em)


def price(entry: RosterEntry) -> int:
    """USD per 10M completion tokens, at least 1."""
    return max(1, _nearest(10 * entry.descriptor.price))


def ranked(topic: str, roster: Roster) -> list[RosterEntry]:
    """A line of the compact table: best candidate first, and of equals the cheaper."""
    return sorted(roster.entries, key=lambda entry: (-percent(topic, entry), price(entry)))


def cell(topic: str, entry: RosterEntry) -> str:
    """What the compact table says of a candidate on a topic: price, skill, name, as in `6 95 Arlix`.

    The skill stands next to the name: where two cells are alike up to the name and one is copied for the other, the
    candidate called is as good.
    """
    return f"{price(entry)} {percent(topic, entry)} {entry.shown}"


def _compact(question: str, roster: Roster) -> str:
    """One line a topic, best candidate first and of equals the cheaper, numbers before the name; then latencies.

    A small policy chooses by copying one cell of a line: what it may weigh stands in the cell, and comparing lines,
    which would take it far longer to learn, is not asked of it.
    """
    rows = []
    for topic in topics(roster):
        rows.append(f"{topic} : " + " , ".join(cell(topic, entry) for entry in ranked(topic, roster)))
    quickest = sorted(roster.entries, key=_seconds)
    seconds = "seconds : " + " , ".join(f"{_seconds(entry)} {entry.shown}" for entry in quickest)
    return "\n".join(["models", *rows, seconds, f"question : {question}"])


def _seconds(entry: RosterEntry) -> int:
    return max(1, _nearest(entry.descriptor.latency_s))


def _prose(question: str, roster: Roster, max_calls: int) -> str:
    models = "\n".join(_described(entry) for entry in roster.entries)
    return f"{_INSTRUCTIONS.format(max_calls=max_calls)}{models}\n\nQuestion: {question}"


def _described(entry: RosterEntry) -> str:
    known = entry.descriptor
    parts = [f"{known.price:g} USD per million output tokens", f"about {known.latency_s:.1f} s a call"]
    if known.skill:
        skills = (f"{topic} {100 * skill.em:.0f}%" for topic, skill in sorted(known.skill.items()))
        parts.append("measured share of right answers: " + ", ".join(skills))
    summary = neutralise(known.summary)
    return f"- {entry.shown}: " + "; ".join(parts) + "." + (f" {summary}" if summary else "")


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)
