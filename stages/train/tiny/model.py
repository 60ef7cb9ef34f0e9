"""The tiny policy's network: Qwen2-shaped, with circuits in place before the first step of pre-training.

Copying a name from a table is what an episode consists of, and a network of this size finds it late or never from a
random start. Layer 0 therefore begins with a previous-token head and layer 1 with induction heads (Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"; Olsson et al. 2022, "In-context Learning and Induction Heads");
training is free to change them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from stages.shared.params import TinyPolicy
from stages.shared.sandbox.lexicon import RELATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

INDUCTION_HEADS = 2
"""At most; one head's size of the residual stream is taken by what the previous token was."""
COPY_DISTANCE = 150
"""Tokens over which the rotary position of an induction head may turn by one radian."""
HIGHEST = 100
"""Largest number that is one token."""
RELATEDNESS = 0.8
"""Share of its domain's vector that a relation's word begins with."""
CONTEXT = 1024
THETA = 1e6


def build_model(policy: TinyPolicy, vocabulary: int, pad: int, end: int, seed: int) -> Qwen2ForCausalLM:
    """A fresh network of about a million parameters, fp32, on the CPU."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=policy.width, intermediate_size=3 * policy.width,
        num_hidden_layers=policy.layers, num_attention_heads=policy.heads, num_key_value_heads=policy.heads,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, rms_norm_eps=1e-6, bos_token_id=None,
        eos_token_id=end, pad_token_id=pad, rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attn_implementation="sdpa",
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        _scale(model)
        _copying_circuit(model)
    return model


def _scale(model: Qwen2ForCausalLM) -> None:
    """Variance-preserving matrices; those that write to the residual stream are smaller by sqrt(2 * layers)."""
    depth = math.sqrt(2 * model.config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if "embed" in name:
            torch.nn.init.normal_(weight, 0.0, model.config.hidden_size**-0.5)
        elif weight.dim() == 2:
            writes = "o_proj" in name or "down_proj" in name
            torch.nn.init.normal_(weight, 0.0, weight.shape[1] ** -0.5 / (depth if writes else 1.0))
        elif "bias" in name:
            torch.nn.init.zeros_(weight)


def place_numbers(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Numbers lie on a half circle in order, so that which is higher can be read off from the first step on."""
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        axes = torch.linalg.qr(torch.randn(model.config.hidden_size, 2))[0].T
        for value in range(HIGHEST + 1):
            angle = math.pi * value / HIGHEST
            place = tokenizer.convert_tokens_to_ids(str(value))
            embedding[place] += -math.cos(angle) * axes[0] + math.sin(angle) * axes[1]


def relate_words(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The words of a relation begin near their domain, as word vectors of a larger corpus would put them."""
    embedding = model.model.embed_tokens.weight
    domains: dict[str, set[str]] = {}
    for relation in RELATIONS:
        for word in " ".join(relation.phrasings).split():
            domains.setdefault(word, set()).add(relation.domain)
    with torch.no_grad():
        for word, near in domains.items():
            centre = torch.stack([embedding[tokenizer.convert_tokens_to_ids(domain)] for domain in sorted(near)]).mean(
                0
            )
            embedding[tokenizer.convert_tokens_to_ids(word)] += RELATEDNESS * centre


def _copying_circuit(model: Qwen2ForCausalLM) -> None:
    """A previous-token head in layer 0 and induction heads in layer 1, in subspaces that do not disturb each other.

    The residual stream is split by a random orthonormal basis: what the previous token was (one head's size) and what
    the current token is (the rest, where embeddings live).
    """
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    size = first.head_dim
    heads = min(INDUCTION_HEADS, model.config.num_attention_heads - 1)
    basis = torch.linalg.qr(torch.randn(model.config.hidden_size, model.config.hidden_size))[0].T
    previous, identity, copied = basis[:size], basis[size : 2 * size], basis[size : (1 + heads) * size]
    embedding = model.model.embed_tokens.weight
    embedding -= embedding @ previous.T @ previous
    for writer in (first.o_proj.weight, model.model.layers[0].mlp.down_proj.weight):
        writer -= previous.T @ (previous @ writer)
    _look_back(model)
    first.v_proj.weight[:size] = identity
    first.o_proj.weight[:, :size] = previous.T * 0.25
    frequencies = _frequencies(size)
    slow = [i for i, frequency in enumerate(frequencies) if frequency * COPY_DISTANCE < 1.0]
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        second.q_proj.weight[rows] = 0.0
        second.k_proj.weight[rows] = 0.0
        for row in (*slow, *(size // 2 + i for i in slow)):
            second.q_proj.weight[head * size + row] = identity[row] * 3.0
            second.k_proj.weight[head * size + row] = previous[row]
        second.v_proj.weight[rows] = copied[rows]
        second.o_proj.weight[:, rows] = copied[rows].T * 1.5


def _look_back(model: Qwen2ForCausalLM) -> None:
    """Head 0 of layer 0 attends to the token before: its query and key biases are equal up to that rotation."""
    attention = model.model.layers[0].self_attn
    size = attention.head_dim
    half = size // 2
    attention.q_proj.weight[:size] *= 0.1
    attention.k_proj.weight[:size] *= 0.1
    for i, frequency in enumerate(_frequencies(size)[:6]):
        attention.k_proj.bias[i] = 4.0
        attention.q_proj.bias[i] = 8.0 * math.cos(frequency)
        attention.q_proj.bias[half + i] = -8.0 * math.sin(frequency)


def _frequencies(size: int) -> list[float]:
    return [THETA ** (-2 * i / size) for i in range(size // 2)]
