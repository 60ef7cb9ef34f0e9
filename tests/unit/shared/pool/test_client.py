"""Candidates over HTTP, against a real server on loopback that misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stages.shared.errors import BudgetError, ConfigurationError, TransientError
from stages.shared.params import Budget, PoolLimits
from stages.shared.pool import breaker, client, endpoint
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.endpoint import where
from stages.shared.pool.instruction import candidate_message
from stages.shared.pool.ledger import Place, open_ledger

KEY = "sk-very-secret-0123456789"
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


def said(text: Any = "belane", finish: Any = "stop", headers: dict[str, str] | None = None, **more: Any) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        body = {
            "choices": [{"message": {"role": "assistant", "content": text, **more.pop("message", {})},
                         "finish_reason": finish}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5},
            **more,
        }  # fmt: skip
        return web.json_response(body, headers=headers)

    return behave


def status(code: int, body: Any = None, **headers: str) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        return web.json_response(body or {"error": {"message": "no"}}, status=code, headers=headers)

    return behave


def raw(body: bytes) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return behave


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": ')
    assert request.transport is not None
    request.transport.abort()
    return response


def slow(seconds: float) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await said()(request)

    return behave


@dataclass
class Provider:
    """Plays its script, the last behaviour for ever."""

    script: list[Behaviour] = field(default_factory=lambda: [said()])
    models: Behaviour = field(default_factory=lambda: status(200, {"data": []}))
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    inside: int = 0
    most_inside: int = 0
    base_url: str = ""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return await self.script[min(len(self.requests), len(self.script)) - 1](request)
        finally:
            self.inside -= 1

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        return await self.models(request)

    def candidate(self, name: str = "Arlix", **more: Any) -> Candidate:
        return Candidate(name, "model-1", self.base_url, price=2.0, prompt_price=0.5, **more)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    play = Provider()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", play.complete)
    app.router.add_get("/v1/models", play.list_models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    play.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield play
    await runner.cleanup()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.3)


def limits(**changed: Any) -> PoolLimits:
    return PoolLimits(**{"timeout_s": 5.0, "attempts": 3, "concurrency": 8, **changed})


async def test_a_call_says_what_the_paper_says(provider: Provider) -> None:
    async with HttpPool([provider.candidate(system="You are a poet.")], limits()) as pool:
        reply = await pool.ask("Arlix", "what time is 10:30 ?")
    assert (reply.text, reply.outcome, reply.prompt_tokens, reply.completion_tokens) == (
        "belane", Outcome.ANSWERED, 20, 5,
    )  # fmt: skip
    assert reply.cost(pool.candidates["Arlix"]) == 10.0
    assert reply.cost_total(pool.candidates["Arlix"]) == 20.0
    assert provider.requests == [
        {
            "model": "model-1",
            "messages": [
                {"role": "system", "content": "You are a poet."},
                {"role": "user", "content": candidate_message("what time is 10:30 ?")},
            ],
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 42,
            "max_tokens": 512,
        }
    ]
    assert "Authorization" not in provider.headers[0]


@pytest.mark.parametrize(
    ("behaviour", "outcome", "text"),
    [
        (said("cut", finish="length"), Outcome.TRUNCATED, "cut"),
        (said("", finish="content_filter"), Outcome.REFUSED, ""),
        (said(None, message={"refusal": "I may not"}), Outcome.REFUSED, "I may not"),
        (said(None), Outcome.ANSWERED, ""),
        (said("odd", finish={"x": 1}), Outcome.ANSWERED, "odd"),
        (raw(b'{"choices":[{"message":{"content":"\\ud800x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'),
         Outcome.ANSWERED, "?x"),
    ],
)  # fmt: skip
async def test_replies_of_the_model_are_no_failures(
    provider: Provider, behaviour: Behaviour, outcome: Outcome, text: str
) -> None:
    provider.script = [behaviour]
    async with HttpPool([provider.candidate()], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, reply.text, reply.attempts) == (outcome, text, 1)
    assert not reply.outcome.is_failure


@pytest.mark.parametrize("trouble", [status(500), status(503), status(429), status(408), reset, half, raw(b"<html>")])
async def test_what_may_pass_is_tried_again(provider: Provider, trouble: Behaviour) -> None:
    provider.script = [trouble, trouble, said()]
    async with HttpPool([provider.candidate()], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, reply.text, reply.attempts) == (Outcome.ANSWERED, "belane", 3)


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (status(429), Outcome.RATE_LIMITED),
        (status(500), Outcome.UNREACHABLE),
        (reset, Outcome.UNREACHABLE),
        (half, Outcome.UNREACHABLE),
        (status(408), Outcome.TIMED_OUT),
        (raw(b"not json"), Outcome.MALFORMED),
        (raw(b"[" * 100_000), Outcome.MALFORMED),
        (raw(b'{"choices": []}'), Outcome.MALFORMED),
        (raw(b"[1]"), Outcome.MALFORMED),
    ],
)
async def test_trying_again_ends(provider: Provider, trouble: Behaviour, outcome: Outcome) -> None:
    provider.script = [trouble]
    async with HttpPool([provider.candidate()], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, reply.attempts, len(provider.requests), reply.text) == (outcome, 3, 3, "")
    assert reply.detail


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (status(402), Outcome.OUT_OF_CREDIT),
        (status(429, {"error": {"code": "insufficient_quota"}}), Outcome.OUT_OF_CREDIT),
        (status(401), Outcome.UNREACHABLE),
        (status(404), Outcome.UNREACHABLE),
        (status(302, Location="http://127.0.0.1:9/"), Outcome.UNREACHABLE),
        (raw(b"x" * ((1 << 20) + 1)), Outcome.MALFORMED),
        (said(usage=None), Outcome.MALFORMED),
        (said(usage={"prompt_tokens": 3}), Outcome.MALFORMED),
        (said(usage={"prompt_tokens": 3, "completion_tokens": -1}), Outcome.MALFORMED),
        (said(usage={"prompt_tokens": 3, "completion_tokens": True}), Outcome.MALFORMED),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(provider: Provider, trouble: Behaviour, outcome: Outcome) -> None:
    provider.script = [trouble]
    async with HttpPool([provider.candidate()], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, reply.attempts, len(provider.requests)) == (outcome, 1, 1)


async def test_retry_after_is_honoured_within_bounds(provider: Provider) -> None:
    for asked, least, most in (("0.2", 0.2, 1.0), ("86400", 0.3, 1.0), ("0", 0.0, 0.2)):
        provider.requests.clear()
        provider.script = [status(429, **{"Retry-After": asked}), said()]
        async with HttpPool([provider.candidate()], limits()) as pool:
            began = time.perf_counter()
            reply = await pool.ask("Arlix", "q")
        assert reply.outcome is Outcome.ANSWERED
        assert least <= time.perf_counter() - began < most


async def test_a_slow_candidate_times_out_and_says_so(provider: Provider) -> None:
    provider.script = [slow(2)]
    async with HttpPool([provider.candidate()], limits(timeout_s=0.1, attempts=2)) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.outcome, reply.attempts) == (Outcome.TIMED_OUT, 2)
    assert 0.05 < reply.latency_s < 1.0


async def test_every_billed_attempt_counts(provider: Provider) -> None:
    provider.script = [said(text=["not", "text"]), said()]
    async with HttpPool([provider.candidate()], limits()) as pool:
        reply = await pool.ask("Arlix", "q")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.attempts) == (40, 10, 2)


async def test_latency_is_the_providers_own_where_it_reports_one(provider: Provider) -> None:
    provider.script = [said(headers={"openai-processing-ms": "1234"})]
    async with HttpPool([provider.candidate()], limits()) as pool:
        assert (await pool.ask("Arlix", "q")).latency_s == pytest.approx(1.234)
        for nonsense in ("soon", "nan", "-4"):
            provider.script = [said(headers={"openai-processing-ms": nonsense})]
            assert 0 < (await pool.ask("Arlix", "q")).latency_s < 1


async def test_nobody_is_there(unused_tcp_port: int) -> None:
    gone = Candidate("Gone", "m", f"http://127.0.0.1:{unused_tcp_port}/v1", 1.0, 0.0)
    async with HttpPool([gone], limits()) as pool:
        assert (await pool.ask("Gone", "q")).outcome is Outcome.UNREACHABLE
        with pytest.raises(TransientError, match=rf"127.0.0.1:{unused_tcp_port}/v1 does not answer"):
            await pool.check()


async def test_places_are_bounded_in_all_and_for_each_candidate(provider: Provider) -> None:
    provider.script = [slow(0.02)]
    async with HttpPool([provider.candidate("A"), provider.candidate("B")], limits(concurrency=4)) as pool:
        await asyncio.gather(*(pool.ask("A", f"q{number}") for number in range(10)))
        assert provider.most_inside == 2
        await asyncio.gather(*(pool.ask(name, f"q{number}") for number, name in enumerate("AB" * 8)))
        assert provider.most_inside == 4


async def test_an_unknown_name_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ConfigurationError, match="no candidate 'B'; it has A"):
        await HttpPool([Candidate("A", "m", "http://127.0.0.1/v1", 1, 1)], limits()).ask("B", "q")


async def test_the_key_travels_in_the_header_and_nowhere_else(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ARLIX_KEY", f" {KEY}\n")
    provider.script = [said(), status(400, {"error": {"message": f"bad key {KEY}"}}), status(401)]
    async with HttpPool([provider.candidate(key_env="ARLIX_KEY")], limits()) as pool:
        replies = [await pool.ask("Arlix", "q") for _ in range(3)]
    assert provider.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert replies[1].detail == "HTTP 400: bad key ***"
    assert "ARLIX_KEY" in replies[2].detail
    assert KEY not in caplog.text + repr(pool) + repr(vars(pool)) + repr(replies) + json.dumps(provider.requests)


@pytest.mark.parametrize("key", [None, "", " ", "two words", "line\nbreak", "schlüssel"])
async def test_a_missing_or_impossible_key_is_named_by_its_variable(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("ARLIX_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("ARLIX_KEY", key)
    async with HttpPool([provider.candidate(key_env="ARLIX_KEY")], limits()) as pool:
        with pytest.raises(ConfigurationError, match="ARLIX_KEY") as caught:
            await pool.check()
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.UNREACHABLE
    assert not key or not key.strip() or key not in str(caught.value)
    assert provider.requests == []


@pytest.mark.parametrize("answer", [status(200, {"data": []}), status(404), status(405)])
async def test_the_check_passes_where_anything_sensible_answers(provider: Provider, answer: Behaviour) -> None:
    provider.models = answer
    async with HttpPool([provider.candidate()], limits()) as pool:
        await pool.check()
    assert provider.requests == []


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (status(401), ConfigurationError, "refuses the key in ARLIX_KEY"),
        (status(403), ConfigurationError, "refuses the key in ARLIX_KEY"),
        (status(301, Location="/v2/models"), ConfigurationError, "redirects"),
        (status(503), TransientError, r"does not answer \(HTTP 503\)"),
        (slow(3), TransientError, "does not answer"),
    ],
)
async def test_the_check_names_what_is_wrong(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, answer: Behaviour, kind: type[Exception], message: str
) -> None:
    monkeypatch.setenv("ARLIX_KEY", KEY)
    provider.models = answer
    async with HttpPool([provider.candidate(key_env="ARLIX_KEY")], limits(timeout_s=0.2, attempts=2)) as pool:
        with pytest.raises(kind, match=message) as caught:
            await pool.check()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("address", ["", "api.example.com/v1", "ftp://x/v1", "http://[::1/v1", "http://h:99999/v1",
                                     "https://user:pa55@host/v1"])  # fmt: skip
async def test_an_impossible_address_is_refused_unshown(address: str) -> None:
    async with HttpPool([Candidate("A", "m", address, 1.0, 1.0)], limits()) as pool:
        with pytest.raises(ConfigurationError, match="base_url of A") as caught:
            await pool.check()
        assert "pa55" not in str(caught.value)
        assert (await pool.ask("A", "q")).outcome is Outcome.UNREACHABLE


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with HttpPool([provider.candidate()], limits()) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.ANSWERED


async def test_a_pool_can_be_closed_and_used_again(provider: Provider) -> None:
    pool = HttpPool([provider.candidate()], limits())
    for _ in range(2):
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.ANSWERED
        await pool.close()


async def test_a_call_ends_at_its_deadline_whatever_attempts_are_left(provider: Provider) -> None:
    provider.script = [status(500)]
    began = time.perf_counter()
    async with HttpPool([provider.candidate()], limits(attempts=1000, deadline_s=0.3)) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.UNREACHABLE
    assert time.perf_counter() - began < 2
    provider.script = [slow(3)]
    async with HttpPool([provider.candidate()], limits(deadline_s=0.3)) as pool:
        assert (await pool.ask("Arlix", "q")).outcome is Outcome.TIMED_OUT
    assert time.perf_counter() - began < 3


async def test_a_candidate_that_comes_back_loses_no_call(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(breaker, "LOOK_S", 0.01)
    provider.script = [status(503)] * 12 + [said()]
    async with HttpPool([provider.candidate()], limits(attempts=2)) as pool:
        lost = [await pool.ask("Arlix", f"q{number}") for number in range(5)]
        kept = await asyncio.gather(*(pool.ask("Arlix", f"r{number}") for number in range(20)))
        async with HttpPool([provider.candidate()], limits()) as other:
            provider.script = [status(404)]
            wrong = [await other.ask("Arlix", f"s{number}") for number in range(8)]
    assert {reply.outcome for reply in (*lost, *wrong)} == {Outcome.UNREACHABLE}
    assert sum(reply.outcome is Outcome.ANSWERED for reply in kept) >= 19
    assert [reply.attempts for reply in wrong] == [1] * 8


async def test_a_candidate_that_stays_down_is_not_tried_for_ever(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST_S", 0.05)
    provider.script = [status(503)]
    async with HttpPool([provider.candidate()], limits(attempts=1, deadline_s=0.2)) as pool:
        replies = [await pool.ask("Arlix", f"q{number}") for number in range(5)]
        while replies[-1].attempts:
            replies.append(await pool.ask("Arlix", f"q{len(replies)}"))
    assert {reply.outcome for reply in replies} == {Outcome.UNREACHABLE}
    assert "down for long" in replies[-1].detail


async def test_the_same_question_is_under_way_only_once(provider: Provider) -> None:
    provider.script = [slow(0.05)]
    async with HttpPool([provider.candidate()], limits()) as pool:
        replies = await asyncio.gather(*(pool.ask("Arlix", text) for text in ("q", "q", "other", "q")))
    assert {reply.text for reply in replies} == {"belane"}
    assert len(provider.requests) == 2
    async with HttpPool([provider.candidate()], limits(temperature=0.5)) as pool:
        await asyncio.gather(*(pool.ask("Arlix", "q") for _ in range(3)))
    assert len(provider.requests) == 5


async def test_what_is_in_the_ledger_is_not_asked_again(provider: Provider, tmp_path: Path) -> None:
    provider.script = [raw(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'), said()]
    replies = []
    for _ in range(2):
        with open_ledger(Place(tmp_path, "profile", "s"), Budget()) as ledger:
            async with HttpPool([provider.candidate()], limits(), ledger) as pool:
                replies.append(await pool.ask("Arlix", "q"))
        assert ledger.spent == (21 * 500_000) + (6 * 2_000_000)
    assert replies[0] == replies[1]
    assert (replies[1].attempts, len(provider.requests)) == (2, 2)


async def test_no_call_is_made_without_money_for_it(provider: Provider, tmp_path: Path) -> None:
    with open_ledger(Place(tmp_path, "profile", "s"), Budget(stage=1e-6)) as ledger:
        async with HttpPool([provider.candidate()], limits(), ledger) as pool:
            with pytest.raises(BudgetError, match=r"pool\.limits\.budget\.stage"):
                await pool.ask("Arlix", "q")
    assert provider.requests == []


def test_a_candidate_without_a_price_is_refused_before_its_first_call() -> None:
    with pytest.raises(ConfigurationError, match="price of Arlix"):
        HttpPool([Candidate("Arlix", "m", "http://127.0.0.1:1/v1", price=float("nan"), prompt_price=0.0)], limits())


async def test_a_provider_hears_the_same_key_while_it_may_have_charged_for_a_lost_answer(provider: Provider) -> None:
    unusable = raw(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}')
    provider.script = [reset, half, status(500), unusable, said(), status(500), said()]
    async with HttpPool([provider.candidate(headers=(("X-Team", "routing"),))], limits(attempts=9)) as pool:
        await pool.ask("Arlix", "q")
        await pool.ask("Arlix", "r")
    keys = [headers["Idempotency-Key"] for headers in provider.headers]
    assert len(set(keys[:4])) == 1
    assert len(set(keys[3:])) == 4
    assert {headers["X-Team"] for headers in provider.headers} == {"routing"}


async def test_a_provider_that_allows_few_at_a_time_gets_few(provider: Provider) -> None:
    async def crowded(request: web.Request) -> web.StreamResponse:
        if provider.inside > 3:
            return await status(429)(request)
        return await slow(0.01)(request)

    provider.script = [crowded]
    async with HttpPool([provider.candidate()], limits(concurrency=64, attempts=20)) as pool:
        replies = await asyncio.gather(*(pool.ask("Arlix", f"q{number}") for number in range(200)))
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    assert len(provider.requests) < 600


async def test_a_private_address_is_refused_unless_it_is_meant() -> None:
    for address in ("http://10.1.2.3/v1", "http://[fd00::1]/v1", "http://169.254.169.254/v1", "http://0.0.0.0/v1",
                    "http://[::ffff:192.168.0.1]/v1"):  # fmt: skip
        async with HttpPool([Candidate("A", "m", address, 1.0, 1.0)], limits()) as pool:
            with pytest.raises(ConfigurationError, match=r"private address.*private: true"):
                await pool.check()
            reply = await pool.ask("A", "q")
        assert (reply.outcome, reply.attempts) == (Outcome.UNREACHABLE, 1)
    assert where(Candidate("A", "m", "http://10.1.2.3/v1", 1.0, 1.0, private=True)) == "http://10.1.2.3/v1"


async def test_a_public_name_cannot_lead_to_a_private_address(provider: Provider, monkeypatch: Any) -> None:
    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "10.0.0.7", "port": port, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(endpoint.DefaultResolver, "resolve", resolve)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with HttpPool([Candidate("A", "m", "http://api.example.com/v1", 1.0, 1.0)], limits()) as pool:
        reply = await pool.ask("A", "q")
    assert (reply.outcome, reply.attempts) == (Outcome.UNREACHABLE, 1)
    assert "10.0.0.7, a private address" in reply.detail
