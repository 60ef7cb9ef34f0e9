"""A chat completions request, read for the one thing that the router answers: the last user message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.publish.serving.refusal import invalid

LONGEST_BODY = 1 << 20
LONGEST_QUESTION = 1 << 17
"""Characters; how many tokens a release reads is asked of the release."""
TOO_LONG = "context_length_exceeded"
TOOLS = ("tools", "functions")


@dataclass(frozen=True)
class Chat:
    """What a client asks for."""

    model: str
    question: str
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a chunk of token counts (OpenAI's `stream_options`)."""


def parse_chat(raw: bytes) -> Chat:
    """Read a request. Earlier turns, system messages, `temperature` and the like are not used: decoding is greedy.

    Raises Refusal for what would be answered otherwise than meant: tools, more than one choice, no question.
    """
    body = _object(raw)
    model, stream, options = body.get("model"), body.get("stream"), body.get("stream_options")
    if not isinstance(model, str) or not model:
        raise invalid("`model` is missing: give the name of the channel, see /v1/models", "model")
    if stream is not None and not isinstance(stream, bool):
        raise invalid("`stream` must be true or false", "stream")
    if body.get("n") not in (None, 1):
        raise invalid("`n` must be 1: the router is greedy and gives one answer", "n")
    if used := next((name for name in TOOLS if body.get(name)), None):
        raise invalid(f"`{used}` is not supported: the router calls its own candidates only", used)
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Chat(model, _question(body.get("messages")), bool(stream), include_usage)


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body


def _question(messages: Any) -> str:
    if not isinstance(messages, list):
        raise invalid("`messages` is missing", "messages")
    asked = [each for each in messages if isinstance(each, dict) and each.get("role") == "user"]
    text = _text(asked[-1].get("content")) if asked else None
    if text is None:
        raise invalid("`messages` holds no user message with text; the last one is the question", "messages")
    if not text.strip():
        raise invalid("the question, the last user message, is empty", "messages")
    if len(text) > LONGEST_QUESTION:
        raise invalid(f"the question has more than {LONGEST_QUESTION} characters", "messages", TOO_LONG)
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(content: Any) -> str | None:
    """A message's text: a string, or parts that are all text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise invalid("the question may hold parts of the type `text` only", "messages")
    texts = [part.get("text") for part in content]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else None
