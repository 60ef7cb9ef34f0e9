"""Candidates over HTTP, against a real server on loopback that misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.instruction import candidate_message
from tests.unit.shared.pool.provider import KEY, Behaviour, Provider, half, limits, raw, reset, said, slow, status

pytestmark = pytest.mark.usefixtures("hasty")


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
