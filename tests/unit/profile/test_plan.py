"""What is asked of every candidate."""

from __future__ import annotations

from stages.profile.plan import make_plan, texts
from stages.shared.questions import Question, SubQuestion, question_id

PARTS = (SubQuestion("first ?", ("x",), "stone"), SubQuestion("second ?", ("y",), "town"))
HOTPOT = [Question(f"both {n} ?", ("y",), "hotpotqa", "profiling", "", 2, PARTS) for n in range(3)]
NQ = [Question(f"one {n} ?", ("x",), "nq", "profiling", "stone") for n in range(3)]


def test_questions_are_taken_evenly_from_the_sets_up_to_the_limit() -> None:
    plan = make_plan([*NQ, *HOTPOT], 3)

    assert [item.question for item in plan if not item.part_of] == ["one 0 ?", "both 0 ?", "one 1 ?"]


def test_the_parts_of_a_multi_hop_question_come_on_top_and_know_their_place() -> None:
    whole, first, second = make_plan(HOTPOT, 1)

    assert (whole.part_of, whole.hops, whole.topic) == ("", 2, "")
    assert (first.part_of, first.part_index, first.hops, first.topic) == (question_id("both 0 ?"), 0, 1, "stone")
    assert (second.part_index, second.topic, second.answers) == (1, "town", ("y",))


def test_a_wording_that_comes_back_is_asked_once() -> None:
    plan = make_plan([*HOTPOT, Question("first ?", ("x",), "nq", "profiling", "stone")], 10)

    assert len(plan) == 3 * 3 + 1
    assert sorted(texts(plan)) == ["both 0 ?", "both 1 ?", "both 2 ?", "first ?", "second ?"]
