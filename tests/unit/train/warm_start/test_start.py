"""From a base policy's folder and a profile's files to a warm-started policy's folder."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from stages.profile.records import SCHEMA
from stages.shared.episode.roster import make_roster
from stages.shared.errors import DataError
from stages.shared.params import SmolPolicy, parse_params
from stages.shared.policy import load_policy, load_tokenizer
from stages.train.warm_start.demonstrations import Teacher
from stages.train.warm_start.start import recipe, warm_start

SMOKE = Path(__file__).parents[4] / "infra/profiles/smoke.yaml"


@pytest.fixture
def base(tmp_path, tokenizer):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path / "base"
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def records(tmp_path, profile):
    path = tmp_path / "records.parquet"
    pq.write_table(pa.Table.from_pylist(list(profile.rows), schema=SCHEMA), path)
    return path


@pytest.fixture
def params():
    """The smoke profile with a warm start of a given number of steps."""

    def make(steps: int):
        raw = yaml.safe_load(SMOKE.read_text())
        raw["train"]["warm_start"] = {"steps": steps, "batch": 8, "learning_rate": 3e-3}
        raw["train"]["roster"] = {"shuffle": True, "rename": 1, "smallest": 2}
        return parse_params(raw, "test")

    return make


def weights(folder) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in load_policy(folder).parameters()])


def test_a_warm_started_folder_is_a_policy_with_the_bases_tokenizer(tmp_path, base, records, profile, params):
    losses = warm_start(base, records, profile.descriptors, profile.questions, params(12), tmp_path / "warm")
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    assert {file.name for file in (tmp_path / "warm").iterdir()} == {file.name for file in base.iterdir()}
    tokenizer = load_tokenizer(tmp_path / "warm")
    assert tokenizer.chat_template == load_tokenizer(base).chat_template
    assert not torch.equal(weights(tmp_path / "warm"), weights(base))


def test_the_same_seed_gives_the_same_policy(tmp_path, base, records, profile, params):
    for name in ("first", "second"):
        warm_start(base, records, profile.descriptors, profile.questions, params(3), tmp_path / name)
    assert torch.equal(weights(tmp_path / "first"), weights(tmp_path / "second"))


def test_no_steps_copy_the_base(tmp_path, base, records, profile, params):
    assert warm_start(base, records, profile.descriptors, profile.questions, params(0), tmp_path / "warm") == ()
    assert torch.equal(weights(tmp_path / "warm"), weights(base))


def test_an_unseen_candidate_is_never_demonstrated(tmp_path, base, records, profile, params, monkeypatch):
    *seen, last = profile.descriptors
    descriptors = (*seen, replace(last, seen=False))
    taught = []
    lessons = Teacher.lessons
    monkeypatch.setattr(Teacher, "lessons", lambda self, q: taught.append(self.descriptors) or lessons(self, q))
    warm_start(base, records, descriptors, profile.questions, params(1), tmp_path / "warm")
    assert taught == [tuple(seen)]
    assert last.name not in {entry.name for entry in make_roster(taught[0]).entries}


def test_nothing_is_left_behind_when_nothing_can_be_demonstrated(tmp_path, base, records, profile, params):
    with pytest.raises(DataError, match="no profiling question can be demonstrated"):
        warm_start(base, records, profile.descriptors, [], params(3), tmp_path / "warm")
    assert not (tmp_path / "warm").exists()


@pytest.mark.parametrize("capable, compute", [(True, "bfloat16"), (False, "float32")])
def test_a_larger_policy_computes_in_bf16_only_where_the_processor_has_it(params, monkeypatch, capable, compute):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": capable})
    tiny = params(3)
    larger = tiny.model_copy(update={"train": tiny.train.model_copy(update={"policy": SmolPolicy()})})
    assert (recipe(larger).compute, recipe(larger).freeze_embeddings) == (compute, True)
    assert (recipe(tiny).compute, recipe(tiny).freeze_embeddings) == ("float32", False)
