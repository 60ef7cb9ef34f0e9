"""One response of a provider, read into a typed reply."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.endpoint import redacted

ANOTHER_MODEL = "the reply of another model"
_MOST_TOKENS = 1 << 31
_LONGEST_DETAIL = 200
_FINISHES = {"length": Outcome.TRUNCATED, "content_filter": Outcome.REFUSED}


@dataclass(frozen=True)
class Attempt:
    """A reply, and whether another attempt may do better."""

    reply: Reply
    again: bool = False
    wait_s: float | None = None
    """Seconds that the provider asks to wait."""
    certain: bool = True
    """Whether the token counts are what the provider charges; False where its answer did not arrive whole."""
    served: str = ""
    """The model that the provider says it was, where that is another than was asked for."""


def again(outcome: Outcome, detail: str, wait_s: float | None = None, *, certain: bool = True) -> Attempt:
    """A failure that may pass."""
    return Attempt(Reply("", outcome, detail=detail), again=True, wait_s=wait_s, certain=certain)


def refusal(outcome: Outcome, detail: str, *, certain: bool = True) -> Attempt:
    """A failure that will not pass by trying again."""
    return Attempt(Reply("", outcome, detail=detail), certain=certain)


def completion(
    status: int, headers: Mapping[str, str], body: bytes, candidate: Candidate, took_s: float = 0.0
) -> Attempt:
    """What a response to a chat completion means. Total: never raises, whatever the body holds.

    `took_s` is the call's latency, seconds, where the provider reports none.
    """
    document = _document(body)
    if status == 200:
        return _read(document, _processing_s(headers) or took_s, candidate)
    detail = f"HTTP {status}"
    if status == 402 or _error(document).get("code") == "insufficient_quota":
        return refusal(Outcome.OUT_OF_CREDIT, f"{detail}: no credit left")
    if status == 429:
        return again(Outcome.RATE_LIMITED, detail, retry_after_s(headers))
    if status == 408:
        return again(Outcome.TIMED_OUT, detail)
    if status >= 500:
        return again(Outcome.UNREACHABLE, detail, retry_after_s(headers), certain=status != 504)
    if status in (401, 403):
        return refusal(Outcome.UNREACHABLE, f"{detail}: refuses the key in {candidate.key_env or '(no key_env set)'}")
    said = fit_for_a_log(redacted(str(_error(document).get("message", "")), candidate))
    return refusal(Outcome.UNREACHABLE, f"{detail}: {said}" if said else detail)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the Retry-After header asks for, given as a number or as a date; None where it says nothing."""
    value = headers.get("Retry-After", "")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _read(document: Any, latency_s: float, candidate: Candidate) -> Attempt:
    """A 200. Its tokens are counted even where the rest is unusable, since they are paid for."""
    usage = _usage(document)
    choice = _choice(document)
    served = _served(document, candidate)
    if served:
        return replace(_malformed(f"{ANOTHER_MODEL}: {served}", usage, latency_s), served=served)
    if choice is None:
        return _malformed("a response without a message", usage, latency_s)
    content, refused = choice["message"].get("content"), choice["message"].get("refusal")
    if not isinstance(content, str | None) or not isinstance(refused, str | None):
        return _malformed("a message that is no text", usage, latency_s)
    if usage is None:
        detail = "a response without token counts, whose cost nobody can tell"
        return refusal(Outcome.MALFORMED, detail, certain=False)
    finish = choice.get("finish_reason")
    outcome = Outcome.REFUSED if refused else _FINISHES.get(finish if isinstance(finish, str) else "", Outcome.ANSWERED)
    text = redacted((content or refused or "").encode("utf-8", "replace").decode("utf-8"), candidate)
    return Attempt(Reply(text, outcome, *usage, latency_s=latency_s))


def _malformed(detail: str, usage: tuple[int, int] | None, latency_s: float) -> Attempt:
    reply = Reply("", Outcome.MALFORMED, *(usage or (0, 0)), latency_s=latency_s, detail=detail)
    return Attempt(reply, again=True, certain=usage is not None)


def _served(document: Any, candidate: Candidate) -> str:
    """The model that a response names, where it cannot be the one asked for; "" otherwise.

    Providers answer to `gpt-4o` as `gpt-4o-2024-08-06`, and to `…-latest` likewise: one name may go on where the other
    ends. Whatever `Candidate.answers_as` lists is fine too.
    """
    named = document.get("model") if isinstance(document, dict) else None
    if not isinstance(named, str) or not named or named in candidate.answers_as:
        return ""
    one, other = (_stem(name) for name in (candidate.model, named))
    return "" if one.startswith(other) or other.startswith(one) else fit_for_a_log(redacted(named, candidate))


def fit_for_a_log(text: str) -> str:
    """The beginning of what a provider says, without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_DETAIL])


def _stem(model: str) -> str:
    return model.rpartition("/")[2].casefold().removesuffix("-latest")


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _choice(document: Any) -> dict[str, Any] | None:
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) and isinstance(choice.get("message"), dict) else None


def _usage(document: Any) -> tuple[int, int] | None:
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (prompt_tokens, completion_tokens) if _is_count(prompt_tokens) and _is_count(completion_tokens) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS


def _error(document: Any) -> dict[str, Any]:
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _processing_s(headers: Mapping[str, str]) -> float:
    milliseconds = _number(headers.get("openai-processing-ms", ""))
    return 0.0 if milliseconds is None else milliseconds / 1000


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
