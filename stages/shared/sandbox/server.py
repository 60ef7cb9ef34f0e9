"""The simulated experts as an HTTP service that speaks OpenAI's chat completions (synthetic).

    python -m stages.shared.sandbox.server --spec FILE --port 0 --ready FILE

The spec is JSON, as `Spec.dump` writes it. When the server listens, the ready file holds {"port", "base_url"}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from stages.shared.errors import PipelineError
from stages.shared.files import read_json, write_json
from stages.shared.params import Expert, SandboxPool, WorldParams
from stages.shared.sandbox.experts import Simulated, check_experts, count_tokens, respond
from stages.shared.sandbox.world import World

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Spec:
    """What the server simulates."""

    world: WorldParams
    experts: tuple[Expert, ...]
    time_scale: float
    """Real seconds slept per simulated second of latency."""

    @staticmethod
    def of(pool: SandboxPool, world: WorldParams) -> Spec:
        """The spec of a sandbox pool."""
        return Spec(world, pool.experts, pool.time_scale)

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "world": self.world.model_dump(),
            "experts": [expert.model_dump() for expert in self.experts],
            "time_scale": self.time_scale,
        }

    @staticmethod
    def load(path: Path) -> Spec:
        """The inverse of `dump`, from a file. Raises pydantic's ValidationError when a section is wrong."""
        raw = read_json(path)
        experts = tuple(Expert.model_validate(item) for item in raw["experts"])
        return Spec(WorldParams.model_validate(raw["world"]), experts, float(raw["time_scale"]))


class ApiError(Exception):
    """A refusal, in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"message": message, "type": kind, "param": param, "code": code}

    def response(self) -> web.Response:
        """The HTTP response; a 503 invites an immediate retry."""
        headers = {"Retry-After": "0"} if self.status == 503 else None
        return web.json_response({"error": self.body}, status=self.status, headers=headers)


@dataclass(frozen=True)
class ChatRequest:
    """The part of a chat completions request that the experts look at."""

    model: str
    prompt: str
    """The last user message."""
    max_tokens: int | None


def parse_request(raw: bytes) -> ChatRequest:
    """Read a request body. Raises ApiError for what OpenAI's API refuses too."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "You must provide a model parameter", param="model")
    if body.get("stream"):
        raise ApiError(400, "This server does not stream", param="stream")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ApiError(400, "max_tokens must be a positive integer", param="max_tokens")
    return ChatRequest(body["model"], _prompt(body.get("messages")), limit)


def _prompt(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "Missing required parameter: 'messages'", param="messages")
    users = [item for item in messages if isinstance(item, dict) and item.get("role") == "user"]
    content = users[-1].get("content") if users else None
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise ApiError(400, "messages must hold a user message with text content", param="messages")
    return content


@dataclass
class Service:
    """The handlers, and which questions have met their one failure."""

    spec: Spec
    world: World
    failed: set[tuple[str, str]] = field(default_factory=set)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[_in_openai_form], client_max_size=2**20)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.health)
        return app

    async def health(self, request: web.Request) -> web.Response:
        """Up."""
        return web.json_response({"status": "ok"})

    async def models(self, request: web.Request) -> web.Response:
        """The experts."""
        data = [{"id": e.name, "object": "model", "created": 0, "owned_by": "sandbox"} for e in self.spec.experts]
        return web.json_response({"object": "list", "data": data})

    async def complete(self, request: web.Request) -> web.Response:
        """One chat completion."""
        chat = parse_request(await request.read())
        expert = next((expert for expert in self.spec.experts if expert.name == chat.model), None)
        if expert is None:
            raise ApiError(404, f"The model `{chat.model}` does not exist", "model_not_found", "model")
        simulated = respond(self.world, expert, chat.prompt)
        if simulated.fails_first and (expert.name, chat.prompt) not in self.failed:
            self.failed.add((expert.name, chat.prompt))
            raise ApiError(503, "The server is overloaded or not ready yet")
        if self.spec.time_scale:
            await asyncio.sleep(simulated.latency_s * self.spec.time_scale)
        headers = {"openai-processing-ms": str(round(simulated.latency_s * 1000))}
        return web.json_response(_completion(chat, simulated), headers=headers)


@web.middleware
async def _in_openai_form(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        return ApiError(error.status, f"{request.method} {request.path}: {error.reason}").response()


def _completion(chat: ChatRequest, simulated: Simulated) -> dict[str, Any]:
    text, finish = _cut(simulated.text, chat.max_tokens)
    tokens = simulated.completion_tokens if finish == "stop" else count_tokens(text)
    return {
        "id": "chatcmpl-sandbox",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": chat.model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": simulated.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": simulated.prompt_tokens + tokens,
        },
    }


def _cut(text: str, limit: int | None) -> tuple[str, str]:
    """The whole words of a text that fit into so many tokens, and why it ends."""
    if limit is None or count_tokens(text) <= limit:
        return text, "stop"
    words = text.split()
    while words and count_tokens(" ".join(words)) > limit:
        words.pop()
    return " ".join(words), "length"


async def run(spec: Spec, port: int, ready: Path | None, follow_stdin: bool) -> None:
    """Serve until cancelled; where `follow_stdin` ties the server to its parent, until standard input closes."""
    runner = web.AppRunner(Service(spec, World.generate(spec.world)).application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    await site.start()
    try:
        address = runner.addresses[0]
        if ready is not None:
            write_json(ready, {"port": address[1], "base_url": f"http://{HOST}:{address[1]}/v1"})
        if follow_stdin:
            await _stdin_closed()
        else:
            await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _stdin_closed() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.shared.sandbox.server", description="Simulated experts over HTTP (synthetic)."
    )
    parser.add_argument("--spec", type=Path, required=True, help="JSON: world, experts, time_scale")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready", type=Path, help="file to write {port, base_url} to once it listens")
    parser.add_argument("--follow-stdin", action="store_true", help="stop when standard input closes")
    options = parser.parse_args(argv)
    try:
        spec = Spec.load(options.spec)
        check_experts(spec.experts)
        asyncio.run(run(spec, options.port, options.ready, options.follow_stdin))
    except PipelineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
