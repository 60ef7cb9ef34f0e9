"""A policy folder is read by the class that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.shared.errors import DataError
from stages.shared.params import TinyPolicy
from stages.shared.policy import end_ids, load_policy, load_tokenizer
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy")
    words = build_tokenizer()
    build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0).save_pretrained(
        path
    )
    words.save_pretrained(path)
    return path


def test_a_generic_tokenizer_in_a_qwen2_folder_keeps_its_own_rules(folder: Path) -> None:
    text = "<search> Arlix : what is the quarry of zumako ? </search>"
    assert load_tokenizer(folder).encode(text) == build_tokenizer().encode(text)


def test_weights_come_back_and_know_their_end(folder: Path) -> None:
    model, words = load_policy(folder), load_tokenizer(folder)
    assert not model.training
    assert end_ids(model, words) == {words.eos_token_id}


def test_without_a_token_for_padding_the_end_of_text_pads(folder: Path, tmp_path: Path) -> None:
    words = load_tokenizer(folder)
    words.pad_token = None
    words.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token_id == words.eos_token_id


def test_a_folder_without_a_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer_config\.json is not readable"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        load_policy(tmp_path)
