"""The policy to start from, whatever it is, is a Hugging Face folder."""

import json
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch

from stages.shared.episode.prompt import chat_ids
from stages.shared.params import LocalModel, LocalPool, SmolPolicy, TinyPolicy
from stages.shared.policy import load_policy, load_tokenizer
from stages.shared.pool.llamacpp import serve_local
from stages.shared.pool.packaged import SMOLLM2
from stages.train.policy.base import base_policy
from stages.train.policy.smollm2 import read_once


def installed() -> bool:
    try:
        distribution(SMOLLM2)
    except PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    if not installed():
        pytest.skip(f"the Python package {SMOLLM2} is not installed")
    return base_policy(SmolPolicy(), tmp_path_factory.mktemp("run"), seed=7)


@pytest.mark.slow
def test_smollm2_is_unpacked_to_plain_fp32_weights(smollm2):
    model = load_policy(smollm2)
    assert model.num_parameters() == 134_515_008
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.config.tie_word_embeddings
    assert model.config.vocab_size == len(load_tokenizer(smollm2))


@pytest.mark.slow
def test_smollm2_speaks_in_its_chat_template_and_ends_on_its_end_token(smollm2):
    tokenizer, model = load_tokenizer(smollm2), load_policy(smollm2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", model.config.eos_token_id)
    prompt = chat_ids(tokenizer, "What is the capital of France?")
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    with torch.inference_mode():
        ids = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12,
                             do_sample=False, pad_token_id=tokenizer.pad_token_id)[0]  # fmt: skip
    assert tokenizer.decode(ids[len(prompt) :]) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_smollm2s_tokens_are_those_of_llamacpp(smollm2, tmp_path):
    tokenizer = load_tokenizer(smollm2)
    texts = [
        "In 1984, 3.14 <think> a </think>",
        "don't  stop\n\nCafé 東京",
        "<|im_start|>user\nhi<|im_end|>\n",
        "<search> a-b : c",
    ]
    models = LocalPool(models=(LocalModel(name="a", gguf=f"package:{SMOLLM2}", price=0.1),), context=256)
    with serve_local(models, tmp_path) as (candidate,):
        for text in texts:
            body = json.dumps({"content": text, "parse_special": True}).encode()
            url = f"{candidate.base_url.removesuffix('/v1')}/tokenize"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as response:
                assert json.load(response)["tokens"] == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.slow
def test_smollm2_is_unpacked_once(smollm2):
    weights = smollm2 / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert base_policy(SmolPolicy(), smollm2.parent, seed=7) == smollm2
    assert weights.stat().st_mtime_ns == before


def test_a_gguf_file_is_read_once_while_it_is_unpacked_and_by_transformers_own_reader(monkeypatch):
    import gguf

    monkeypatch.setattr(gguf, "GGUFReader", reader := lambda path: [path])
    with read_once():
        assert gguf.GGUFReader("a") is gguf.GGUFReader("a")
        assert gguf.GGUFReader("b") == ["b"]
    assert gguf.GGUFReader is reader


def test_the_tiny_policy_is_prepared_once_in_the_run_folder(tmp_path):
    policy = TinyPolicy(pretrain_steps=0)
    folder = base_policy(policy, tmp_path, seed=7)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert load_tokenizer(folder).chat_template
    assert load_policy(folder).config.model_type == "qwen2"
    assert base_policy(policy, tmp_path, seed=7) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
