"""Stop strings are found in tokens, however the tokenizer cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stages.shared.stops import StopFinder
from stages.train.tiny.tokenizer import build_tokenizer

STOPS = ("</search>", "</answer>")


def byte_pairs() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that has no token for any tag."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(["the search for an answer> in what is said </ se arch"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.fixture(params=["byte pairs", "tiny"])
def words(request: pytest.FixtureRequest) -> Any:
    return byte_pairs() if request.param == "byte pairs" else build_tokenizer()


@pytest.mark.parametrize("text", ["<search> a : b </search>", "<answer> stone </answer>", "a > b </answer> c"])
def test_the_first_token_that_completes_a_stop_is_found(words: Any, text: str) -> None:
    finder = StopFinder(words, len(words))
    ids = words.encode(text, add_special_tokens=False)
    found = [end for end in range(1, len(ids) + 1) if finder.completes(ids[end - 1], ids[:end], 0, STOPS)]
    assert found
    before = words.decode(ids[: found[0] - 1])
    assert not any(stop in before for stop in STOPS)
    assert any(stop in words.decode(ids[: found[0]]) for stop in STOPS)


def test_a_stop_that_began_before_this_turn_does_not_count(words: Any) -> None:
    finder = StopFinder(words, len(words))
    ids = words.encode("</search> >", add_special_tokens=False)
    assert not finder.completes(ids[-1], ids, len(ids) - 1, STOPS)


def test_text_without_a_stop_goes_on(words: Any) -> None:
    finder = StopFinder(words, len(words))
    ids = words.encode("<think> what > is search </think>", add_special_tokens=False)
    assert not any(finder.completes(ids[end - 1], ids[:end], 0, STOPS) for end in range(1, len(ids) + 1))
