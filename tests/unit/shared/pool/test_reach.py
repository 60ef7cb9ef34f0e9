"""What is said of candidates before a run: each against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from stages.shared.finding import Finding
from stages.shared.params import ApiCandidate, ApiPool, WorldParams
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.reach import check_pool, reach

CLOSED = "http://127.0.0.1:9/v1"
KEY = "sk-very-secret-0123456789"


@pytest.fixture
async def provider() -> AsyncIterator[tuple[str, dict[str, object], list[str]]]:
    """Its base URL, what it answers (`status`, `body`), and the authorizations that it saw."""
    answer: dict[str, object] = {"status": 200, "body": {"data": [{"id": "model-1"}, {"id": "model-2"}]}}
    seen: list[str] = []

    async def models(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        status = answer["status"]
        assert isinstance(status, int)
        return web.Response(status=status, text=json.dumps(answer["body"]), headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", answer, seen
    await runner.cleanup()


def candidate(base_url: str, name: str = "Arlix", model: str = "model-1", key_env: str | None = None) -> Candidate:
    return Candidate(name, model, base_url, price=2.0, prompt_price=0.5, key_env=key_env)


async def one(item: Candidate, patience_s: float = 5.0) -> Finding:
    (finding,) = await reach([item], patience_s)
    return finding


async def test_a_candidate_that_is_there_is_good_with_its_price_and_latency(provider) -> None:
    finding = await one(candidate(provider[0]))
    assert finding.state == "good"
    assert "model-1" in finding.found
    assert "2 USD per 1M tokens, prompts 0.5" in finding.found
    assert " ms" in finding.found


async def test_an_endpoint_is_asked_once_for_all_its_candidates(provider) -> None:
    found = await reach([candidate(provider[0], f"c{number}") for number in range(8)])
    assert [finding.state for finding in found] == ["good"] * 8
    assert len(provider[2]) == 1


async def test_each_candidate_needs_a_usable_price_and_an_address_that_is_meant(provider) -> None:
    odd = replace(candidate(provider[0], "Bomon"), price=1e-9)
    private = candidate("http://10.0.0.9/v1", "Cyqun")
    found = await reach([candidate(provider[0]), odd, private])
    assert [finding.state for finding in found] == ["good", "wrong", "wrong"]
    assert "price of Bomon is unknown or unusable" in found[1].found
    assert "write what the provider charges" in found[1].todo
    assert "private: true" in found[2].todo


async def test_a_model_that_the_api_does_not_know_is_named_beside_those_it_does(provider) -> None:
    finding = await one(candidate(provider[0], model="model-9"))
    assert finding.state == "wrong"
    assert "has no model model-9" in finding.found
    assert "model-1, model-2" in finding.todo


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_names_its_variable_and_never_shows_it(provider, monkeypatch, status: int) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    provider[1]["status"] = status
    finding = await one(candidate(provider[0], key_env="MY_KEY"))
    assert provider[2] == [f"Bearer {KEY}"]
    assert finding.state == "wrong"
    assert "refuses the key in MY_KEY" in finding.found
    assert KEY not in str(finding)


@pytest.mark.parametrize(("status", "words"), [(302, "base_url"), (402, "pay"), (429, "later"), (503, "later")])
async def test_other_answers_say_what_to_do(provider, status: int, words: str) -> None:
    provider[1]["status"] = status
    finding = await one(candidate(provider[0]))
    assert finding.state == "wrong"
    assert words in finding.todo


@pytest.mark.parametrize("body", [{}, [], {"data": [1]}, "x"])
async def test_an_api_that_lists_no_models_is_a_note(provider, body: object) -> None:
    provider[1]["body"] = body
    finding = await one(candidate(provider[0]))
    assert finding.state == "note"
    assert "no list of models, so model-1 is unproved" in finding.found


async def test_an_endpoint_that_knows_no_list_proves_neither_key_nor_address(provider, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    provider[1]["status"] = 404
    finding = await one(candidate(provider[0], key_env="MY_KEY"))
    assert (finding.state, "HTTP 404" in finding.found, "accepted" in finding.found) == ("note", True, False)
    assert "base_url" in finding.todo


async def test_names_that_an_endpoint_gives_its_models_cannot_reach_the_terminal(provider) -> None:
    provider[1]["body"] = {"data": [{"id": "\x1b[31mred\u202e"}, {"id": "x" * 5000}]}
    finding = await one(candidate(provider[0]))
    assert finding.todo.isprintable()
    assert len(finding.todo) < 500
    provider[1]["body"] = {"data": []}
    assert (await one(candidate(provider[0]))).todo.endswith("it has none")


async def test_endpoints_are_asked_in_parallel_and_none_is_waited_for_long(provider) -> None:
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    slow = [candidate(f"http://127.0.0.1:{port}/v{number}", f"slow-{number}") for number in range(5)]
    began = time.monotonic()
    found = await reach([*slow, candidate(provider[0])], patience_s=0.5)
    assert time.monotonic() - began < 1.5
    assert [finding.state for finding in found] == ["wrong"] * 5 + ["good"]
    assert "says nothing within 0.5 s" in found[0].found
    silent.close()


async def test_a_closed_port_says_so() -> None:
    finding = await one(candidate(CLOSED))
    assert finding.state == "wrong"
    assert "does not answer" in finding.found


def test_candidates_without_their_key_are_not_asked_and_the_key_is_named_once(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    items = tuple(
        ApiCandidate(name=name, model="m", base_url=CLOSED, key_env="NO_SUCH_KEY", price=1, prompt_price=0)
        for name in ("one", "two")
    )
    (finding,) = check_pool(ApiPool(candidates=items), WorldParams(), tmp_path)
    assert (finding.name, finding.state, finding.todo) == ("$NO_SUCH_KEY", "wrong", "export NO_SUCH_KEY=…")
    assert "is not set" in finding.found
    monkeypatch.setenv("NO_SUCH_KEY", "two words")
    (finding,) = check_pool(ApiPool(candidates=items), WorldParams(), tmp_path)
    assert "holds no usable API key" in finding.found


def test_a_pool_that_cannot_be_served_is_one_finding(tmp_path: Path) -> None:
    item = ApiCandidate(name="one", model="m", base_url="http://127.0.0.1:9/v1", price=1, prompt_price=0)
    (finding,) = check_pool(ApiPool(candidates=(item, item)), WorldParams(), tmp_path)
    assert finding.state == "wrong"
    assert "the name one is used twice" in finding.found
