"""One response of a provider, read."""

from __future__ import annotations

import email.utils
import json
import time

from hypothesis import given
from hypothesis import strategies as st

from stages.shared.pool.attempt import completion, retry_after_s
from stages.shared.pool.candidate import Candidate
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
