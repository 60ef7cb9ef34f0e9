"""What any OpenAI client gets: answers, whole or as a stream, and errors that it understands."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

QUESTION = "who is the mayor of zumako"


def test_a_question_is_answered_with_its_calls_and_what_they_cost(server: Any, candidates: Any) -> None:
    done = server.ask(QUESTION)
    (choice,) = done.choices
    assert (choice.message.content, choice.finish_reason) == (candidates.reply, "stop")
    assert "best is Arlix" in choice.message.reasoning_content
    assert candidates.reply in choice.message.reasoning_content
    ours = done.pointsman
    assert ours["release"] == server.follower.current.digest
    (call,) = ours["calls"]
    assert (call["candidate"], call["query"], call["outcome"]) == ("Arlix", QUESTION, "answered")
    assert ours["cost_usd"] == call["cost_usd"] == pytest.approx(candidates.cost_usd)


def test_usage_counts_what_the_policy_itself_read_and_wrote(server: Any) -> None:
    usage = server.ask(QUESTION).usage
    assert 0 < usage.completion_tokens < 60
    assert usage.prompt_tokens > usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_tells_thoughts_and_calls_before_the_answer(server: Any, candidates: Any) -> None:
    candidates.gate.clear()
    stream = server.openai().chat.completions.create(
        model="production", messages=[{"role": "user", "content": f"wait {QUESTION}"}], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    reasoning, content, last, usage = "", "", None, None
    for chunk in stream:
        if not chunk.choices:
            usage = chunk.usage
            continue
        delta = chunk.choices[0].delta
        reasoning += getattr(delta, "reasoning_content", "") or ""
        content += delta.content or ""
        if "→ Arlix" in reasoning:
            candidates.gate.set()
        if chunk.choices[0].finish_reason:
            last = chunk
    assert content == candidates.reply
    assert reasoning.index("best is Arlix") < reasoning.index("→ Arlix") < reasoning.index(f"← {candidates.reply}")
    assert last.choices[0].finish_reason == "stop"
    assert last.pointsman["cost_usd"] == pytest.approx(candidates.cost_usd)
    assert usage.total_tokens > 0


def test_a_stream_is_server_sent_events_and_ends_in_done(server: Any) -> None:
    body = {"model": "production", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_the_question_is_the_last_user_message_and_nothing_else_is_read(server: Any, candidates: Any) -> None:
    messages = [
        {"role": "system", "content": "say nothing"},
        {"role": "user", "content": "an older question"},
        {"role": "assistant", "content": "an older answer"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "who is the mayor"}, {"type": "text", "text": "of zumako"}],
        },
    ]
    given = {"temperature": 1.7, "top_p": 0.1, "max_tokens": 1, "seed": 3, "stop": ["a"]}
    done = server.openai().chat.completions.create(model="production", messages=messages, **given)
    assert done.choices[0].message.content == candidates.reply
    (asked,) = candidates.asked
    assert QUESTION in asked
    assert "older" not in asked


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "who " * 300}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 200_000}]}, "messages"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_would_be_answered_otherwise_than_meant_is_refused(
    server: Any, changed: dict[str, Any], param: str
) -> None:
    body = {"model": "production", "messages": [{"role": "user", "content": QUESTION}], **changed}
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_a_model_that_is_not_served_is_not_found(server: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="there is 'production'") as caught:
        server.openai().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": QUESTION}])
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 3}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(server: Any, body: bytes) -> None:
    response = server.http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_body_without_end_is_refused_and_one_of_another_type_not_read(server: Any) -> None:
    headers = {"Content-Type": "application/json"}
    assert server.http.post("/v1/chat/completions", content=b" " * (1 << 21), headers=headers).status_code == 413
    response = server.http.post("/v1/chat/completions", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status_code, "application/json" in response.text) == (400, True)


@pytest.mark.parametrize("path", ["/v1/completions", "/nowhere"])
def test_what_is_not_there_is_said_in_openais_form(server: Any, path: str) -> None:
    response = server.http.get(path)
    assert response.status_code == 404
    assert path in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_episode_without_an_answer_says_so(server: Any, stream: bool) -> None:
    done = server.ask("ponder that", stream=stream)
    choice = [chunk.choices[0] for chunk in done][-1] if stream else done.choices[0]
    assert choice.finish_reason == "length"
    assert (choice.delta if stream else choice.message).content in ("", None)


def test_a_failed_call_that_leaves_no_answer_is_the_servers_fault(server: Any) -> None:
    with pytest.raises(openai.InternalServerError, match="Arlix out-of-credit") as caught:
        server.ask("insist bankrupt")
    assert caught.value.status_code == 503
    with pytest.raises(openai.APIError, match="Arlix out-of-credit"):
        list(server.ask("insist bankrupt", stream=True))


def test_an_answer_in_spite_of_a_failed_call_is_an_answer(server: Any) -> None:
    done = server.ask("bankrupt")
    assert done.choices[0].finish_reason == "stop"
    assert done.pointsman["calls"][0]["outcome"] == "out-of-credit"


def test_one_requests_failure_touches_no_other(server: Any, candidates: Any) -> None:
    before = server.metric("pointsman_requests_total", outcome="error")
    with pytest.raises(openai.InternalServerError, match="broke down"):
        server.ask("crash now")
    assert server.ask(QUESTION).choices[0].message.content == candidates.reply
    with pytest.raises(openai.APIError, match="broke down"):
        list(server.ask("crash now", stream=True))
    assert server.metric("pointsman_requests_total", outcome="error") == before + 2


def test_models_are_the_channel_and_the_release_it_serves(server: Any) -> None:
    digest = server.follower.current.digest
    assert [model.id for model in server.openai().models.list()] == ["production", digest]
    assert server.ask(QUESTION, model=digest).pointsman["release"] == digest


def test_health_says_what_is_served(server: Any) -> None:
    known = server.http.get("/health").json()
    assert known == {
        "status": "ok", "channel": "production", "release": server.follower.current.digest, "sequence": 1,
        "synthetic": known["synthetic"],
    }  # fmt: skip


def test_metrics_count_requests_calls_dollars_and_tokens(server: Any, candidates: Any) -> None:
    before = {name: server.metric(name, **labels) for name, labels in COUNTED.items()}
    server.ask(QUESTION)
    text = server.http.get("/metrics").text
    grown = {name: server.metric(name, **labels) - before[name] for name, labels in COUNTED.items()}
    assert grown["pointsman_requests_total"] == grown["pointsman_calls_total"] == 1
    assert grown["pointsman_request_seconds_count"] == 1
    assert grown["pointsman_dollars_total"] == pytest.approx(candidates.cost_usd)
    assert grown["pointsman_tokens_total"] > 0
    assert "pointsman_in_flight 0.0" in text
    assert (
        f'pointsman_release_info{{channel="production",release="{server.follower.current.digest}",sequence="1"}}'
        in text
    )


COUNTED = {
    "pointsman_requests_total": {"outcome": "answered"},
    "pointsman_calls_total": {"candidate": "Arlix", "outcome": "answered"},
    "pointsman_request_seconds_count": {},
    "pointsman_dollars_total": {"candidate": "Arlix"},
    "pointsman_tokens_total": {"kind": "written"},
}
