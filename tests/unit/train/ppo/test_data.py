"""Rows for verl: rendered prompts, a roster a question, in an order that training can rely on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import Params, RosterParams
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import Question
from stages.train.ppo.columns import parse_roster
from stages.train.ppo.data import check_lengths, training_order, write_rows
from stages.train.tiny.tokenizer import build_tokenizer

NAMES = ("Devex", "Elzor", "Fimon", "Gulix")


def test_every_question_is_seen_before_any_is_seen_again(questions: list[Question], params: Params) -> None:
    ppo = params.train.ppo.model_copy(update={"steps": 6, "questions": 6})
    order = training_order(questions, ppo, seed=1)
    assert len(order) == 36
    assert Counter(question.id for question in order[:18]) == Counter(question.id for question in questions)
    assert order == training_order(questions, ppo, seed=1)
    assert order != training_order(questions, ppo, seed=2)


def test_the_curriculum_begins_with_single_hops(questions: list[Question], params: Params) -> None:
    ppo = params.train.ppo.model_copy(update={"steps": 4, "questions": 8, "curriculum": 0.5})
    order = training_order(questions, ppo, seed=1)
    hops = [[question.hops for question in order[step * 8 : step * 8 + 8]] for step in range(4)]
    assert [step.count(1) for step in hops[:2]] == [7, 7]
    assert sum(step.count(2) for step in hops[2:]) > 2


def test_an_empty_split_is_refused(params: Params) -> None:
    with pytest.raises(DataError, match="training split is empty"):
        training_order([], params.train.ppo, seed=1)


def test_a_row_carries_its_own_roster_and_the_prompt_shows_it(
    tmp_path: Path, questions: list[Question], descriptors: tuple[Descriptor, ...], params: Params
) -> None:
    path = tmp_path / "train.parquet"
    roster = RosterParams(shuffle=True, rename=1, smallest=2)
    prompts = write_rows(path, questions, descriptors, roster, NAMES, params.episode, "seed")
    rows = pq.read_table(path).to_pylist()
    known = {descriptor.name: descriptor for descriptor in descriptors}
    assert [row["prompt"][0]["content"] for row in rows] == prompts
    for row, question in zip(rows, questions, strict=True):
        drawn = parse_roster(row["roster"], known)
        assert {entry.name for entry in drawn.entries} <= set(known)
        assert all(entry.shown in NAMES and entry.shown in row["prompt"][0]["content"] for entry in drawn.entries)
        assert row["reward_model"]["ground_truth"]["target"] == list(question.answers)
    assert len({row["roster"] for row in rows}) > 3
    assert write_rows(path, questions, descriptors, roster, NAMES, params.episode, "seed") == prompts


def test_a_prompt_longer_than_allowed_is_refused_with_the_number(params: Params) -> None:
    episode = params.episode.model_copy(update={"prompt_tokens": 10})
    with pytest.raises(ConfigurationError, match="allows 10; raise it to"):
        check_lengths(["what is the quarry of zumako ?"] * 3, build_tokenizer(), episode)
