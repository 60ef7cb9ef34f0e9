"""An episode in OpenAI's words: one body, or the chunks of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stages.publish.serving.unfolding import Begun, Ended, Step, Unfolding, call_records, dollars
from stages.shared.episode.types import Episode

DONE = b"data: [DONE]\n\n"


def _id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _now() -> int:
    return int(time.time())


@dataclass
class Wording:
    """What one request is told. `pointsman` is our extension; clients that do not know it pass it over."""

    model: str
    id: str = field(default_factory=_id)
    created: int = field(default_factory=_now)
    reasoning: list[str] = field(default_factory=list)

    def heard(self, step: Step) -> None:
        """Keep a step for the body."""
        self.reasoning.append(step.text)

    def body(self, ended: Ended) -> dict[str, Any]:
        """The whole completion."""
        episode = ended.episode
        message = {
            "role": "assistant",
            "content": episode.answer or "",
            "refusal": None,
            "reasoning_content": "".join(self.reasoning),
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(episode)}
        head = self._head("chat.completion")
        return {**head, "choices": [choice], "usage": usage(episode), "pointsman": _extension(ended)}

    def chunks(self, event: Unfolding, include_usage: bool) -> Iterator[dict[str, Any]]:
        """What a stream says of one event."""
        if isinstance(event, Begun):
            yield self._chunk({"role": "assistant", "content": ""}) | {"pointsman": {"release": event.release}}
        elif isinstance(event, Step):
            yield self._chunk({"reasoning_content": event.text}) | {"pointsman": {"step": event.detail}}
        else:
            if event.episode.answer:
                yield self._chunk({"content": event.episode.answer})
            yield self._chunk({}, finish(event.episode)) | {"pointsman": _extension(event)}
            if include_usage:
                yield {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(event.episode)}

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def finish(episode: Episode) -> str:
    """`stop` for an answer, `length` where turns or room ran out before one."""
    return "length" if episode.answer is None else "stop"


def usage(episode: Episode) -> dict[str, int]:
    """The policy's own tokens: what it read (prompt and replies, each once), and what it wrote."""
    written = sum(episode.response_mask)
    read = len(episode.prompt_ids) + len(episode.response_ids) - written
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def event(document: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def _extension(ended: Ended) -> dict[str, Any]:
    return {
        "release": ended.release,
        "ending": ended.episode.ending,
        "calls": call_records(ended.episode),
        "cost_usd": dollars(ended.episode),
    }
