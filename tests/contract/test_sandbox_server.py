"""The sandbox's server keeps to OpenAI's chat completions protocol."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stages.shared.files import write_json
from stages.shared.params import Expert, PoolLimits, SandboxPool, WorldParams
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.serving import serve
from stages.shared.sandbox.lexicon import DOMAINS
from stages.shared.sandbox.server import Spec
from stages.shared.sandbox.world import World

WORLD = WorldParams()
KNOWS, FAILS = (
    Expert(
        name=name, skill=dict.fromkeys(DOMAINS, 1.0), price=1.0, failure_rate=rate, latency_s=0.25, latency_sigma=0.0
    )
    for name, rate in (("Knows", 0.0), ("Fails", 1.0))
)
NAME = World.generate(WORLD).entities("stone")[0].name
QUESTION = f"what is the quarry of {NAME} ?"


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Candidate, ...]]:
    pool = SandboxPool(experts=(KNOWS, FAILS), time_scale=0.0)
    with serve(pool, WORLD, tmp_path_factory.mktemp("state")) as candidates:
        yield candidates


@pytest.fixture(scope="module")
def url(candidates: tuple[Candidate, ...]) -> str:
    return candidates[0].base_url


async def post(url: str, body: Any, path: str = "/chat/completions") -> tuple[int, Any, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as session, session.post(url + path, data=data) as response:
        return response.status, await response.json(), response.headers


def chat(model: str = "Knows", content: object = QUESTION, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


async def test_a_completion_has_choices_usage_and_processing_time(url: str) -> None:
    status, body, headers = await post(url, chat())

    assert status == 200
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert headers["openai-processing-ms"] == "250"


async def test_content_in_parts_and_earlier_turns_are_read_too(url: str) -> None:
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    whole = {"model": "Knows", "messages": [*turns, {"role": "user", "content": [{"type": "text", "text": QUESTION}]}]}

    answers = [(await post(url, body))[1]["choices"][0]["message"]["content"] for body in (chat(), whole)]

    assert answers[0] == answers[1]


async def test_max_tokens_cuts_the_reply_and_says_so(url: str) -> None:
    _, body, _ = await post(url, chat(content="hello", max_tokens=3))

    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["message"]["content"] == "i do not"
    assert body["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    "body, status, param",
    [
        (b"{broken", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 100_000, 400, None),
        ([], 400, None),
        ({}, 400, "model"),
        (chat("Nobody"), 404, "model"),
        ({"model": "Knows"}, 400, "messages"),
        ({"model": "Knows", "messages": []}, 400, "messages"),
        ({"model": "Knows", "messages": "hello"}, 400, "messages"),
        ({"model": "Knows", "messages": [{"role": "system", "content": "be brief"}]}, 400, "messages"),
        (chat(content=None), 400, "messages"),
        (chat(stream=True), 400, "stream"),
        (chat(max_tokens=0), 400, "max_tokens"),
        (chat(max_tokens="many"), 400, "max_tokens"),
    ],
)
async def test_a_bad_request_is_refused_in_openais_form(url: str, body: Any, status: int, param: str | None) -> None:
    code, answer, _ = await post(url, body)

    assert code == status
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param
    assert answer["error"]["message"]


async def test_an_unknown_model_and_an_unknown_path_are_named(url: str) -> None:
    _, model, _ = await post(url, chat("Nobody"))
    status, path, _ = await post(url, {}, "/embeddings")

    assert model["error"]["code"] == "model_not_found"
    assert status == 404
    assert "/v1/embeddings" in path["error"]["message"]


async def test_models_and_health(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/models") as response:
            assert [item["id"] for item in (await response.json())["data"]] == ["Knows", "Fails"]
        async with session.get(f"{url.removesuffix('/v1')}/health") as response:
            assert response.status == 200


async def test_a_failing_expert_answers_503_once_a_question_and_then_succeeds(url: str) -> None:
    question = f"what is the moss of {NAME} ?"

    statuses = [(await post(url, chat("Fails", question)))[0] for _ in range(3)]

    assert statuses == [503, 200, 200]


async def test_the_pool_client_is_answered_and_rides_over_a_failure(candidates: tuple[Candidate, ...]) -> None:
    async with HttpPool(candidates, PoolLimits()) as pool:
        await pool.check()
        replies = [await pool.ask(name, QUESTION) for name in ("Knows", "Fails")]

    assert [reply.outcome for reply in replies] == [Outcome.ANSWERED, Outcome.ANSWERED]
    assert [reply.attempts for reply in replies] == [1, 2]
    assert replies[0].text == replies[1].text
    assert [reply.latency_s for reply in replies] == [0.25, 0.25]


def test_a_spec_that_makes_no_pool_ends_the_server_with_one_message(tmp_path: Path) -> None:
    spec = Spec(WORLD, (KNOWS, KNOWS), 0.0)
    write_json(tmp_path / "spec.json", spec.dump())
    command = [sys.executable, "-m", "stages.shared.sandbox.server", "--spec", str(tmp_path / "spec.json")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2])

    assert done.returncode == 2
    assert done.stderr.strip() == "pool.experts names Knows twice; rename one"


def test_the_server_loads_neither_torch_nor_pandas() -> None:
    heavy = "{'torch', 'pandas', 'pyarrow', 'transformers'}"
    program = f"import sys, stages.shared.sandbox.server; print({heavy} & {{*sys.modules}})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).resolve().parents[2])  # fmt: skip

    assert done.stdout.strip() == "set()"


def test_simulated_latency_is_slept_by_its_scale(tmp_path: Path) -> None:
    import asyncio

    with serve(SandboxPool(experts=(KNOWS,), time_scale=1.0), WORLD, tmp_path) as (candidate,):
        start = time.monotonic()
        asyncio.run(post(candidate.base_url, chat()))

    assert time.monotonic() - start > 0.25
