"""The language between policy and driver: tags, turns, observations, and what makes text inert."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stages.shared.episode.types import Roster

SEARCH_END, ANSWER_END = "</search>", "</answer>"
STOPS = (SEARCH_END, ANSWER_END)
"""A routed turn ends at either."""
LAST_STOPS = (ANSWER_END,)
"""The generation after the last routed turn ends here only."""
CORRECTION = "no such call ; write name : question , then answer"
"""Observation after an invalid action."""
UNAVAILABLE = "unavailable"
"""Observation after a call that the infrastructure failed."""

_TAG = re.compile(r"<(/?)(think|search|information|answer)>")
_ACTION_END = re.compile(r"</(search|answer)>")
_EMPTY_THINK = re.compile(r"<think>\s*</think>")
_END_TOKEN = re.compile(r"(?:<\|\w{1,40}\|>|</s>|<eos>|<pad>|<end_of_turn>|\[PAD\])\Z")
_LONGEST_END_TOKEN = 48
_MARKUP = re.compile(
    r"[<＜﹤]\s{0,3}([/／]?\s{0,3}[\w|｜▁:.\-]{1,60})\s{0,3}[>＞﹥]"  # as in <search>, <|im_end|>
    r"|\[\s{0,3}(/?\s{0,3}\w{1,60})\s{0,3}\]"  # as in [INST], [SEP]
)
_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\s*\n\s*\n\s*")


@dataclass(frozen=True)
class CallRequest:
    """The policy calls a candidate by its shown name; neither part is empty, the name may be unknown."""

    shown: str
    query: str


@dataclass(frozen=True)
class Answer:
    """The policy answers, which ends the episode."""

    text: str


@dataclass(frozen=True)
class Invalid:
    """A turn that neither calls nor answers, and why."""

    reason: str


Action = CallRequest | Answer | Invalid


def parse_turn(text: str) -> Action:
    """What a turn of the policy does: its first closed search or answer block decides. Total: never raises.

    The call is split on its first colon, so that a query may hold more ("at 10:30").
    """
    end = _ACTION_END.search(text)
    if end is None:
        return Invalid("neither a call nor an answer")
    opening = f"<{end[1]}>"
    start = text.rfind(opening, 0, end.start())
    if start < 0:
        return Invalid(f"{end[0]} without {opening}")
    content = text[start + len(opening) : end.start()]
    if _TAG.search(content):
        return Invalid(f"a tag inside {opening}")
    return Answer(content.strip()) if end[1] == "answer" else _call(content)


def _call(content: str) -> CallRequest | Invalid:
    shown, colon, query = (part.strip() for part in content.partition(":"))
    if not colon:
        return Invalid("a call without a colon")
    if not shown:
        return Invalid("a call without a name")
    if not query:
        return Invalid("a call without a query")
    return CallRequest(shown, query)


def neutralise(reply: str) -> str:
    """A text from outside made inert: it can hold no tag, no special token and no invisible character.

    Control, format (bidirectional overrides, zero-width), surrogate and private characters go; what looks like a tag
    or a special token keeps its word in round brackets. Idempotent.
    """
    visible = "".join(_visible(reply))
    tidy = _EMPTY_LINES.sub("\n\n", _BLANKS.sub(" ", visible)).strip()
    return _MARKUP.sub(lambda found: f"({(found[1] or found[2]).strip()})", tidy)


def _visible(text: str) -> Iterator[str]:
    for character in text:
        if character in "\n\t\r\v\f\x85\u2028\u2029":
            yield " " if character == "\t" else "\n"
        elif unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co"):
            yield character


def observation(text: str) -> str:
    """The information block around an inert text, on a line of its own between two turns of the policy."""
    return f"\n<information> {text} </information>\n"


def without_end_tokens(text: str) -> str:
    """The text without trailing white space and chat end tokens."""
    while True:
        text = text.rstrip()
        found = _END_TOKEN.search(text, max(0, len(text) - _LONGEST_END_TOKEN))
        if found is None:
            return text
        text = text[: found.start()]


def faults(turns: Sequence[str], roster: Roster, max_calls: int | None = None) -> tuple[str, ...]:
    """What breaks the paper's format rules (section 3.2) in the policy's own turns; empty when well-formed.

    Observations are no part of `turns`: neither a candidate's reply nor a cut of it can be held against the policy.
    A call in the turn after the first `max_calls` is beyond the limit.
    """
    found = []
    for index, text in enumerate(turns):
        over = max_calls is not None and index >= max_calls
        found += [f"turn {index + 1}: {fault}" for fault in _turn_faults(without_end_tokens(text), roster, over)]
    answers = sum(text.count(ANSWER_END) for text in turns)
    if answers != 1:
        found.append(f"{answers} answers instead of one")
    return tuple(found)


def _turn_faults(text: str, roster: Roster, over: bool) -> Iterator[str]:
    yield from _opening_faults(text)
    yield from _nesting_faults(text)
    yield from _action_faults(text, roster, over)
    end = _ACTION_END.search(text)
    if end is not None and text[end.end() :].strip():
        yield f"text after {end[0]}"


def _opening_faults(text: str) -> Iterator[str]:
    if "<think>" not in text:
        yield "no think block"
    elif not text.lstrip().startswith("<think>"):
        yield "text before the first <think>"
    if _EMPTY_THINK.search(text):
        yield "an empty think block"


def _nesting_faults(text: str) -> Iterator[str]:
    inside = ""
    for closing, name in _TAG.findall(text):
        if name == "information":
            yield "an information tag of the policy's own"
        if closing and inside != name:
            yield f"</{name}> closes nothing"
        elif not closing and inside:
            yield f"<{name}> inside <{inside}>"
        inside = "" if closing else name
    if inside:
        yield f"<{inside}> is not closed"


def _action_faults(text: str, roster: Roster, over: bool) -> Iterator[str]:
    action = parse_turn(text)
    if isinstance(action, Invalid):
        yield action.reason
    elif isinstance(action, CallRequest):
        if roster.find(action.shown) is None:
            yield f"unknown model {action.shown!r}"
        if over:
            yield "a call beyond the limit"
