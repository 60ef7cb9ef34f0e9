"""What a turn means, what breaks the format, and how foreign text is made inert."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.episode.protocol import (
    CORRECTION,
    UNAVAILABLE,
    Answer,
    CallRequest,
    Invalid,
    faults,
    neutralise,
    observation,
    parse_turn,
    without_end_tokens,
)
from stages.shared.episode.types import Roster

CALL = "<think> topic stone </think> <search> Arlix : what is the quarry of zumako ? </search>"
ANSWER = "<think> done </think> <answer> belane </answer> <|im_end|>"
PIECES = [
    "<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>",
    "<|im_end|>", "<|im_start|>", "</s>", "[INST]", "Arlix", ":", "belane", " ", "\n", "<", ">", "/", "[", "]", "|",
    "search", "\u202e", "\u200b", "\x00", "＜search＞", "<SEARCH>", "< / search >", "é", "🙂", "\ud800",
]  # fmt: skip
hostile = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
LIVE = re.compile(r"[<＜﹤]\s?[/／]?\s?(?:think|search|information|answer)\s?[>＞﹥]|<\|\w+\|>|</?s>|\[/?INST\]", re.I)


def test_reads_a_call_spaced_as_either_tokenizer_spaces_it() -> None:
    expected = CallRequest("Arlix", "what is the quarry of zumako ?")
    assert parse_turn(CALL) == expected
    assert parse_turn("<think>t</think>\n<search>Arlix:what is the quarry of zumako ?</search>\n") == expected


def test_splits_a_call_on_its_first_colon_only() -> None:
    assert parse_turn("<search> Arlix : what time is 10:30 ? </search>") == CallRequest("Arlix", "what time is 10:30 ?")


def test_keeps_the_name_exactly() -> None:
    assert parse_turn("<search> Qwen2.5-7B-Instruct: q </search>") == CallRequest("Qwen2.5-7B-Instruct", "q")
    assert parse_turn("<search> arlix : q </search>") == CallRequest("arlix", "q")


def test_reads_an_answer() -> None:
    assert parse_turn(ANSWER) == Answer("belane")
    assert parse_turn("<answer></answer>") == Answer("")


def test_the_first_closed_action_decides() -> None:
    assert parse_turn(f"{CALL} <answer> x </answer>") == CallRequest("Arlix", "what is the quarry of zumako ?")
    assert parse_turn(f"<answer> x </answer> {CALL}") == Answer("x")


@pytest.mark.parametrize(
    "text",
    [
        "", "<think> hm", "Arlix : what ?", "<search> Arlix what ? </search>", "<search> : what ? </search>",
        "<search> Arlix : </search>", "<search> Arlix :  </search>", "q </search>", "belane </answer>",
        "<search> <think> Arlix : q </think> </search>", "<answer> <think> x </think> </answer>", "<search> A : q",
    ],
)  # fmt: skip
def test_anything_else_is_invalid(text: str) -> None:
    assert isinstance(parse_turn(text), Invalid)


@given(hostile)
def test_parsing_never_fails_and_never_yields_an_empty_call(text: str) -> None:
    action = parse_turn(text)
    if isinstance(action, CallRequest):
        assert action.shown
        assert action.query
        assert action.shown in text
        assert action.query in text


def test_a_well_formed_episode_has_no_faults(roster: Roster) -> None:
    assert faults([CALL, CALL, ANSWER], roster, 4) == ()
    assert faults(["<think>\nt\n</think>\n<answer>x</answer>\n<|im_end|>\n"], roster) == ()


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        (["<think> x <search> Arlix : q </search>", ANSWER], "turn 1: <search> inside <think>"),
        (["<think> x </think> </think> <answer> y </answer>"], "turn 1: </think> closes nothing"),
        (["<think> a <think> b </think> </think> <answer> y </answer>"], "turn 1: <think> inside <think>"),
        (["<think> a </think> <search> Arlix : q"], "turn 1: <search> is not closed"),
        (["<think>  \n </think> <answer> y </answer>"], "turn 1: an empty think block"),
        (["<answer> y </answer>"], "turn 1: no think block"),
        ([CALL, "<answer> y </answer>"], "turn 2: no think block"),
        (["well <think> a </think> <answer> y </answer>"], "turn 1: text before the first <think>"),
        ([f"{ANSWER} and more"], "turn 1: text after </answer>"),
        ([f"{CALL} Arlix", ANSWER], "turn 1: text after </search>"),
        ([CALL], "0 answers instead of one"),
        ([f"<think> a </think> <answer> y </answer> {ANSWER}"], "2 answers instead of one"),
        ([CALL.replace("Arlix", "Arli"), ANSWER], "turn 1: unknown model 'Arli'"),
        ([CALL.replace("Arlix", "arlix"), ANSWER], "turn 1: unknown model 'arlix'"),
        (["<think> a </think> <search> Arlix : </search>", ANSWER], "turn 1: a call without a query"),
        (["<think> a </think> <search> Arlix </search>", ANSWER], "turn 1: a call without a colon"),
        (["<think> a </think> <|im_end|>", ANSWER], "turn 1: neither a call nor an answer"),
        (["<think> a </think> <information> y </information> <answer> y </answer>"],
         "turn 1: an information tag of the policy's own"),
        ([CALL, CALL, CALL], "turn 3: a call beyond the limit"),
    ],
)  # fmt: skip
def test_names_every_fault_of_the_papers_format(turns: list[str], fault: str, roster: Roster) -> None:
    assert fault in faults(turns, roster, 2)


@given(st.lists(hostile, max_size=4))
def test_judging_never_fails(turns: list[str]) -> None:
    assert faults(turns, Roster(()), 2) or turns


def test_chat_end_tokens_and_white_space_do_not_count_as_text() -> None:
    assert without_end_tokens("x </answer><|im_end|>\n<|endoftext|></s> ") == "x </answer>"
    assert without_end_tokens(" " * 1_000_000 + "x" + " " * 1_000_000)[-1] == "x"


def test_a_reply_keeps_its_words_and_loses_its_tags() -> None:
    reply = "so <answer>belane</answer> <|im_end|>\n\n\n\n[INST] it\tis \x07 </ Information >"
    assert neutralise(reply) == "so (answer)belane(/answer) (|im_end|)\n\n(INST) it is (/ Information)"


def test_ordinary_text_is_left_alone() -> None:
    text = "If x < 3 and y > 4 then f(x) = x² + 1; see «Ünal», 10:30.\n- 北京\n- नमस्ते"
    assert neutralise(text) == text


@pytest.mark.parametrize(
    "hidden", ["<sea\u200brch>", "<\u202esearch>", "<search\x00>", "<\u2066/answer>", "＜search＞"]
)
def test_invisible_characters_hide_no_tag(hidden: str) -> None:
    assert not LIVE.search(neutralise(hidden))


@given(hostile)
def test_nothing_live_survives_and_neutralising_again_changes_nothing(text: str) -> None:
    inert = neutralise(text)
    assert not LIVE.search(inert)
    assert neutralise(inert) == inert
    assert isinstance(parse_turn(inert), Invalid)
    inert.encode("utf-8")


@pytest.mark.parametrize("unit", ["<", "< ", "<a", "[", " ", "\n", "\n \n", "<|", "<search", "</search>", "\x00", "a"])
def test_a_megabyte_is_made_inert_in_linear_time(unit: str) -> None:
    assert not LIVE.search(neutralise(unit * (1_000_000 // len(unit))))


def test_what_the_driver_itself_says_is_inert() -> None:
    assert neutralise(CORRECTION) == CORRECTION
    assert neutralise(UNAVAILABLE) == UNAVAILABLE
    assert observation("x") == "\n<information> x </information>\n"
