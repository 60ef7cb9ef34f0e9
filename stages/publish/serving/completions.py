"""POST /v1/chat/completions: reads a request, plays its episode, and writes it down whole or as a stream."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from stages.publish.serving.access import Access
from stages.publish.serving.chat import LONGEST_BODY, Chat, parse_chat
from stages.publish.serving.connection import GoneError, while_connected
from stages.publish.serving.conversation import House, converse
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.refusal import Refusal, invalid
from stages.publish.serving.unfolding import Ended, Step, Unfolding, dollars
from stages.publish.serving.wording import DONE, Wording, event

_LOG = logging.getLogger(__name__)
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or a proxy may hold a stream back until it is whole
}


@dataclass
class Outcome:
    """How a request ended, for counts and the log."""

    metrics: Metrics
    name: str = "error"
    note: str = ""
    began: float = field(default_factory=time.perf_counter)
    is_counted: bool = False

    def count(self) -> None:
        """Once; before the last byte is sent, since who has the answer may look for it among the counts."""
        if self.is_counted:
            return
        self.is_counted = True
        seconds = time.perf_counter() - self.began
        self.metrics.requests.labels(self.name).inc()
        self.metrics.seconds.observe(seconds)
        _LOG.info("%s in %.2f s%s", self.name, seconds, f": {self.note}" if self.note else "")

    def ended(self, ended: Ended) -> None:
        """It got what the episode came to."""
        episode = ended.episode
        self.name = "answered" if episode.answer is not None else "no-answer"
        self.note = f"{episode.ending}, {len(episode.calls)} calls, ${dollars(episode):.6f}"


@dataclass(frozen=True)
class Completions:
    """The ASGI endpoint."""

    house: House
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that goes away cancels its episode."""
        outcome = Outcome(self.house.metrics)
        reply = Reply(scope, receive, send, outcome)
        try:
            request = Request(scope, receive)
            self.access.check(request)
            chat = parse_chat(await _body(request))
            await while_connected(receive, self._answer(chat, reply, outcome))
        except Refusal as refusal:
            outcome.name, outcome.note = refusal.reason, str(refusal)
            if refusal.reason == "error":
                _LOG.error("an episode broke down", exc_info=refusal.__cause__)
            await reply.refuse(refusal)
        except (GoneError, ClientDisconnect):
            outcome.name = "gone"
        finally:
            outcome.count()

    async def _answer(self, chat: Chat, reply: Reply, outcome: Outcome) -> None:
        wording = Wording(chat.model)
        async with aclosing(converse(chat, self.house)) as events:
            if chat.stream:
                await _stream(events, wording, chat.include_usage, reply, outcome)
                return
            async for happened in events:
                if isinstance(happened, Step):
                    wording.heard(happened)
                elif isinstance(happened, Ended):
                    outcome.ended(happened)
                    await reply.whole(JSONResponse(wording.body(happened)))


@dataclass
class Reply:
    """The HTTP response: whole, or begun and then filled piece by piece."""

    scope: Scope
    receive: Receive
    send: Send
    outcome: Outcome
    streams: bool = False

    async def whole(self, response: Response) -> None:
        """Send all at once."""
        self.outcome.count()
        await response(self.scope, self.receive, self.send)

    async def piece(self, content: bytes, more: bool = True) -> None:
        """Send a piece of a stream."""
        if not more:
            self.outcome.count()
        if not self.streams:
            self.streams = True
            headers = [(name.encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": content, "more_body": more})

    async def refuse(self, refusal: Refusal) -> None:
        """Say why there is no answer; in a stream, whose status is out already, as an event."""
        if self.streams:
            await self.piece(event(refusal.body()) + DONE, more=False)
        else:
            await self.whole(refusal.response())


async def _stream(
    events: AsyncGenerator[Unfolding, None], wording: Wording, include_usage: bool, reply: Reply, outcome: Outcome
) -> None:
    async for happened in events:
        if isinstance(happened, Ended):
            outcome.ended(happened)
        for chunk in wording.chunks(happened, include_usage):
            await reply.piece(event(chunk))
    await reply.piece(DONE, more=False)


async def _body(request: Request) -> bytes:
    """The request's body. Raises Refusal for one that is too long or not said to be JSON.

    To insist on the type keeps other sites' pages out: a browser sends it across sites only where we allow that.
    """
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise invalid("send the header `Content-Type: application/json`")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise Refusal(413, "invalid", f"the body has more than {LONGEST_BODY} bytes")
    return bytes(body)
