"""What the lessons of pre-training ask the policy to write, and what they only show it."""

from __future__ import annotations

import itertools
import random
import re

from stages.train.tiny.text import CALLS, LESSONS, NEARLY, comparisons, episodes, lesson_weights, lessons, replies

SEEDS = range(30)


def test_what_a_reply_says_is_what_comes_next() -> None:
    for seed in SEEDS:
        shown_so_far = ""
        for text, trained in replies(random.Random(seed)):
            if trained and not text.startswith("<think>"):
                reply = re.findall(r"<information> (?:it is )?(.*?) </information>", shown_so_far)[-1]
                assert reply.split()[-1] == text.split()[0]
            shown_so_far += f" {text}"


def test_a_comparison_without_a_table_does_not_teach_whom_to_call() -> None:
    for seed in SEEDS:
        for text, trained in comparisons(random.Random(seed)):
            assert not (trained and re.search(r"topic \w+ , \d+ \d+ \w+", text))


def test_a_comparison_announces_the_other_and_ends_on_the_higher_number() -> None:
    for seed in SEEDS:
        text = " ".join(text for text, _ in comparisons(random.Random(seed)))
        for played in text.split("question :")[1:]:
            first, second = re.search(r"(\w+) (?:or|and) (\w+)", played).groups()
            assert re.search(rf", then {second} </think> <search> \w+ : what is the .* of {first} \?", played)
            told = [int(number) for number in re.findall(r"<information> [^<]*?(\d+) </information>", played)]
            if len(told) == 2:
                winner = first if told[0] > told[1] else second
                facts = f"{told[0]} {first} , {told[1]} {second} , higher {max(told)} {winner}"
                assert f"<think> {facts} </think> <answer> {winner} </answer>" in played


def test_another_candidate_is_asked_where_one_has_no_answer_and_then_the_episode_gives_up() -> None:
    given_up = 0
    for seed in range(300):
        text = "".join(text for text, _ in episodes(random.Random(seed)))
        for played in text.split("question :")[1:]:
            turns = re.findall(r"<search> (\w+) : (.*?) </search> ?\n<information> (.*?) </information>", played)
            assert len(turns) <= CALLS
            for (who, query, reply), (other, repeated, _) in itertools.pairwise(turns):
                assert reply.startswith("i do not") == (query == repeated)
                assert who != other or query != repeated
            out_of_calls = len(turns) == CALLS and ", then" in played.rpartition("<search>")[0].rpartition("<think>")[2]
            gives_up = turns[-1][2].startswith("i do not") or out_of_calls
            given_up += gives_up
            assert gives_up == ("<answer> unknown </answer>" in played)
    assert given_up > 5


def test_where_cost_counts_the_cheapest_that_will_do_is_mostly_asked() -> None:
    assert 0.6 < share_of_cheapest(thrifty=True) < 0.95
    assert share_of_cheapest(thrifty=False) < 0.55


def test_where_cost_counts_the_best_follows_on_who_had_no_answer() -> None:
    """After the cheapest, and not whoever comes next in the line; after the best itself, the second best."""
    seconds = 0
    for seed in range(300):
        text = "".join(text for text, _ in lessons(thrifty=True)[-1](random.Random(seed)))
        for topic, first, second in re.findall(r"<think> topic (\w+) , (\d+ \d+ \w+) , (\d+ \d+ \w+)", text):
            line = re.search(rf"^{topic} : (.*)$", text, re.MULTILINE)[1].split(" , ")
            assert second == next(cell for cell in line if cell != first)
            seconds += 1
    assert seconds > 30


def share_of_cheapest(*, thrifty: bool) -> float:
    """Of the first calls of a step in a topic where the cheapest that will do is not the best."""
    cheapest = asked = 0
    for seed in range(300):
        text = "".join(text for text, _ in lessons(thrifty=thrifty)[-1](random.Random(seed)))
        for topic, first in re.findall(r"<think> topic (\w+) , (\d+ \d+ \w+)(?! , \d)", text):
            line = re.search(rf"^{topic} : (.*)$", text, re.MULTILINE)[1].split(" , ")
            cells = [tuple(map(int, cell.split()[:2])) for cell in line]
            good = [cell for cell in cells if cell[1] >= cells[0][1] - NEARLY]
            if min(good) != cells[0]:
                asked += 1
                cheapest += tuple(map(int, first.split()[:2])) == min(good)
    return cheapest / asked


def test_every_lesson_has_a_weight_at_every_time() -> None:
    for progress in (0.0, 0.2, 0.9):
        weights = lesson_weights(progress)
        assert len(weights) == len(LESSONS)
        assert sum(weights) > 0.99
