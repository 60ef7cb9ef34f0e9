"""What the records say of a candidate."""

from __future__ import annotations

import pytest

from stages.profile.measures import describe, summarise
from stages.profile.plan import Item
from stages.profile.records import Record, make_records
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.sandbox.experts import short_answer

CANDIDATE = Candidate("Arlix", "Arlix", "http://127.0.0.1:9/v1", price=2.0, prompt_price=0.5, summary="synthetic")
WHOLE = Item("whole ?", ("zumako",), "hotpotqa", "", 2)
PARTS = [
    Item("part a ?", ("bolite",), "hotpotqa", "stone", 1, WHOLE.id, 0),
    Item("part b ?", ("zumako",), "hotpotqa", "town", 1, WHOLE.id, 1),
]
SINGLE = Item("single ?", ("42",), "nq", "stone", 1)
FAILED = Reply("", Outcome.TIMED_OUT)


def answered(text: str, latency_s: float = 0.2) -> Reply:
    return Reply(text, Outcome.ANSWERED, 20, 3, latency_s)


def records(*replies: Reply) -> list[Record]:
    plan = [WHOLE, *PARTS, SINGLE]
    pairs = zip(plan, replies, strict=True)
    return make_records(plan, [CANDIDATE], {("Arlix", item.question): reply for item, reply in pairs}, short_answer)


GOOD = records(answered("it is zumako", 0.1), answered("it is bolite", 0.2), FAILED, answered("it is 41", 0.6))


def test_a_record_holds_the_scores_of_the_short_answer_and_the_cost() -> None:
    first = GOOD[0]

    assert (first.em, first.f1, first.contains) == (1.0, 1.0, 1.0)
    assert (first.cost, first.cost_total) == (3 * 2.0, 3 * 2.0 + 20 * 0.5)


def test_a_failed_call_leaves_missing_values_not_zeros() -> None:
    failed = GOOD[2]

    assert (failed.reply, failed.em, failed.f1, failed.contains, failed.latency_s) == (None,) * 5
    assert failed.outcome == "timed-out"


def test_a_descriptor_measures_single_hop_questions_and_parts_by_topic() -> None:
    (descriptor,) = describe([CANDIDATE], GOOD)

    assert (descriptor.name, descriptor.price, descriptor.summary) == ("Arlix", 2.0, "synthetic")
    assert descriptor.latency_s == 0.2
    assert list(descriptor.skill) == ["stone"]
    assert (descriptor.skill["stone"].em, descriptor.skill["stone"].n) == (0.5, 2)


def test_skill_counts_a_gold_answer_within_a_sentence() -> None:
    (descriptor,) = describe([CANDIDATE], records(FAILED, answered("well, Bolite, i think"), FAILED, answered("no")))

    assert descriptor.skill["stone"].em == 0.5


def test_the_summary_counts_failures_and_leaves_them_out_of_means() -> None:
    summary = summarise([CANDIDATE], GOOD)

    assert (summary["questions"], summary["parts"], summary["calls"]) == (2, 2, 4)
    assert summary["failures"] == {"timed-out": 1}
    own = summary["candidates"]["Arlix"]
    assert (own["calls"], own["failed"]) == (4, 1)
    assert own["em"] == pytest.approx(2 / 3, abs=1e-6)
    assert own["by_set"]["nq"]["em"] == 0.0
    assert own["by_topic"]["town"] == {**own["by_topic"]["town"], "calls": 1, "failed": 1, "em": None, "cost": None}


def test_a_question_asked_once_counts_once_in_skill_though_it_has_two_records() -> None:
    plan = [PARTS[0], PARTS[0], SINGLE]
    replies = {("Arlix", "part a ?"): answered("bolite"), ("Arlix", "single ?"): answered("no")}
    twice = make_records(plan, [CANDIDATE], replies, short_answer)

    assert describe([CANDIDATE], twice)[0].skill["stone"].n == 2
