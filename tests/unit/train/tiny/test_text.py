"""What the lessons of pre-training ask the policy to write, and what they only show it."""

from __future__ import annotations

import random
import re

from stages.train.tiny.text import LESSONS, comparisons, lesson_weights, replies

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
            first, second = re.search(r"(\w+) or (\w+)", played).groups()
            assert re.search(rf", then {second} </think> <search> \w+ : what is the .* of {first} \?", played)
            told = re.findall(r"<information> [^<]*?(\d+) </information>", played)
            of_first, of_second = map(int, told)
            assert f"<answer> {first if of_first > of_second else second} </answer>" in played


def test_every_lesson_has_a_weight_at_every_time() -> None:
    for progress in (0.0, 0.2, 0.9):
        weights = lesson_weights(progress)
        assert len(weights) == len(LESSONS)
        assert sum(weights) > 0.99
