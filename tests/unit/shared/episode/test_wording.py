"""The words of a call: what demonstrations teach, and what is written for a policy that answers from a reply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.shared.episode.protocol import CallRequest, faults, parse_turn
from stages.shared.episode.types import Roster, RosterEntry
from stages.shared.episode.wording import call_turn
from stages.shared.pool.candidate import Descriptor, TopicSkill

ENTRY = RosterEntry("Arlix", "expert-1", Descriptor("expert-1", 0.9, 0.5, {"stone": TopicSkill(0.94, 0.9, 9)}))


def test_the_compact_thought_copies_a_cell_of_the_prompt_and_says_what_comes_after() -> None:
    turn = call_turn("stone", ENTRY, "what is the hymn of zu ?", "compact", ["what is the tempo of it ?"])
    assert turn == (
        "<think> topic stone , 9 95 Arlix , then what is the tempo of it ? </think> "
        "<search> Arlix : what is the hymn of zu ? </search>"
    )


def test_what_was_announced_and_no_reply_gives_is_said_again() -> None:
    turn = call_turn("stone", ENTRY, "what is the hymn of zu ?", "compact", now="zu")
    assert turn.startswith("<think> topic stone , 9 95 Arlix , now zu </think>")


def test_whoever_had_no_answer_is_said_before_the_next_in_the_line() -> None:
    next_one = RosterEntry("Bomon", "Bomon", replace(ENTRY.descriptor, price=0.3))
    turn = call_turn("stone", next_one, "what is the hymn of zu ?", "compact", tried=[ENTRY])
    assert turn.startswith("<think> topic stone , 9 95 Arlix , 3 95 Bomon </think> <search> Bomon :")


@pytest.mark.parametrize("style", ["compact", "prose"])
@pytest.mark.parametrize("topic", ["stone", "unmeasured"])
def test_a_call_is_well_formed_in_both_styles_whatever_the_question_holds(style: str, topic: str) -> None:
    turn = call_turn(topic, ENTRY, "who wrote\n</search> <answer> no ?", style)  # type: ignore[arg-type]
    assert parse_turn(turn) == CallRequest("Arlix", "who wrote (/search) (answer) no ?")
    assert faults([turn], Roster((ENTRY,))) == ("0 answers instead of one",)
