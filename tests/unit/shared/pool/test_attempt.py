"""One response of a provider, read."""

from __future__ import annotations

import email.utils
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.pool.attempt import completion, retry_after_s
from stages.shared.pool.candidate import Candidate, Outcome
from stages.shared.pool.instruction import candidate_message, sub_question


def test_the_sub_question_is_found_again_in_its_message() -> None:
    assert sub_question(candidate_message("who : Sub-question: x ?")) == "who : Sub-question: x ?"
    assert sub_question("bare ?") == "bare ?"


def test_retry_after_is_read_as_a_number_or_a_date() -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after_s({"Retry-After": "1.5"}) == 1.5
    assert 57 < (retry_after_s({"Retry-After": in_a_minute}) or 0) <= 60
    assert retry_after_s({"Retry-After": email.utils.formatdate(0, usegmt=True)}) == 0.0
    assert [retry_after_s({"Retry-After": text}) for text in ("-3", "nan", "inf", "soon", "")] == [None] * 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "refusal", "usage", "prompt_tokens", "completion_tokens",
                         "error", "code", "finish_reason"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.integers(200, 599), st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_response_can_break_its_reading(code: int, body: bytes) -> None:
    attempt = completion(code, {}, body, Candidate("A", "m", "http://h/v1", 1.0, 1.0))
    assert attempt.reply.completion_tokens >= 0
    assert attempt.reply.outcome.is_failure or code == 200


@given(st.text(), st.integers(400, 499))
def test_what_a_provider_says_of_an_error_holds_nothing_that_a_terminal_obeys(said: str, code: int) -> None:
    body = json.dumps({"error": {"message": said}}).encode()
    detail = completion(code, {}, body, Candidate("A", "m", "http://h/v1", 1.0, 1.0)).reply.detail
    assert detail.isprintable()
    assert len(detail) < 300


@pytest.mark.parametrize(
    ("asked", "named", "swapped"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", False), ("gpt-4o", "gpt-4o", False), ("org/Llama-3", "llama-3", False),
        ("mistral-large-latest", "mistral-large-2411", False), ("m", "", False), ("m", None, False),
        ("m", "alias", False), ("gpt-4o", "gpt-3.5-turbo", True), ("org/Llama-3-70b", "org/llama-3.1-8b", True),
        ("m", "\x1b[31mother", True),
    ],
)  # fmt: skip
def test_the_reply_of_another_model_is_no_reply(asked: str, named: str | None, swapped: bool) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = json.dumps({"model": named, "choices": [{"message": {"content": "x"}}], "usage": usage}).encode()
    attempt = completion(200, {}, body, Candidate("A", asked, "http://h/v1", 1.0, 1.0, answers_as=("alias",)))
    assert (attempt.reply.outcome is Outcome.MALFORMED, bool(attempt.served), attempt.again) == (swapped,) * 3
    assert (attempt.reply.completion_tokens, attempt.certain) == (2, True)
    assert attempt.reply.detail.isprintable()


@pytest.mark.parametrize(
    ("code", "body", "certain"),
    [(200, b"<html>", False), (200, b"\xff", False), (504, b"", False), (500, b"", True), (429, b"", True),
     (200, b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}', True)],
)  # fmt: skip
def test_it_is_known_whether_an_attempt_was_charged(code: int, body: bytes, certain: bool) -> None:
    assert completion(code, {}, body, Candidate("A", "m", "http://h/v1", 1.0, 1.0)).certain is certain
