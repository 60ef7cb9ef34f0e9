"""The tiny policy: its tokenizer keeps the sandbox's words whole, its network copies before it is trained."""

import random
from pathlib import Path

import pytest
import torch

from stages.shared.episode.protocol import faults
from stages.shared.params import TinyPolicy, WorldParams
from stages.shared.policy import load_policy, load_tokenizer
from stages.shared.sandbox.lexicon import CANDIDATE_NAMES, words
from stages.shared.sandbox.world import World
from stages.train.tiny import text
from stages.train.tiny.model import build_model
from stages.train.tiny.prepare import draw_batches, prepare_tiny
from stages.train.tiny.tokenizer import TAGS, UNKNOWN, build_tokenizer


def test_words_names_and_tags_of_the_sandbox_are_single_tokens() -> None:
    tokenizer = build_tokenizer()
    for word in (*words(), *CANDIDATE_NAMES, *TAGS, "100"):
        assert len(tokenizer.encode(word, add_special_tokens=False)) == 1, word


def test_every_entity_is_three_pieces_and_comes_back_as_it_was() -> None:
    tokenizer = build_tokenizer()
    world = World.generate(WorldParams(entities=60))
    for entity in (entity for kind in world.by_type for entity in world.entities(kind)):
        pieces = tokenizer.encode(entity.name, add_special_tokens=False)
        assert len(pieces) == 3
        assert tokenizer.decode(pieces) == entity.name


def test_any_latin_text_is_encoded_without_an_unknown_token() -> None:
    tokenizer = build_tokenizer()
    assert UNKNOWN not in tokenizer.tokenize("Whatever Robert wrote: at 10:30, on 5 May 1984!")


def test_a_fresh_network_already_continues_a_repeated_list() -> None:
    tokenizer = build_tokenizer()
    model = build_model(TinyPolicy(), len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, 7)
    once = torch.randint(120, len(tokenizer), (8, 20), generator=torch.Generator().manual_seed(0))
    ids = once.repeat(1, 5)

    with torch.no_grad():
        scores = model(input_ids=ids).logits[:, 40:-1].log_softmax(-1)
    right = scores.gather(-1, ids[:, 41:, None]).mean()

    assert right > scores.mean() + 1.0


def test_every_lesson_encodes_without_unknown_words_and_has_something_to_learn() -> None:
    tokenizer, rng = build_tokenizer(), random.Random(3)
    for lesson in text.LESSONS:
        for _ in range(20):
            segments = lesson(rng)
            whole = " ".join(words for words, _ in segments)
            assert UNKNOWN not in tokenizer.tokenize(whole), whole
            assert any(trained for _, trained in segments)


@pytest.mark.parametrize("thrifty", [False, True])
def test_episodes_of_pre_training_are_well_formed(thrifty: bool) -> None:
    rng = random.Random(5)
    for _ in range(50):
        roster = text.draw_roster(rng)
        _, segments = text._chain(roster, rng, thrifty)
        written = [words.removesuffix(" <|im_end|>") for words, trained in segments if trained]
        assert faults(written, roster) == ()


def test_batches_are_bucketed_by_length() -> None:
    batches = draw_batches(build_tokenizer(), 16, 0.9, random.Random(0))

    assert sum(len(batch.ids) for batch in batches) == 16
    assert [batch.ids.shape[1] for batch in batches] == sorted(batch.ids.shape[1] for batch in batches)


def test_the_same_seed_gives_the_same_policy(tmp_path: Path) -> None:
    policy = TinyPolicy(width=32, layers=2, heads=2, pretrain_steps=3, pretrain_batch=4)
    for name in ("one", "two"):
        prepare_tiny(policy, 7, tmp_path / name)

    one, two = (load_policy(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert len(load_tokenizer(tmp_path / "one")) == len(build_tokenizer())
