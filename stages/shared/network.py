"""Llama-shaped transformers, run token by token without padding: one set of layers under generation and training.

transformers' own forward pads a batch and moves its KV cache on every step, which costs a small model most of its time.
Here tokens of many sequences lie in one flat list; only attention, which a caller supplies, knows who sees whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from stages.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES = ("llama", "qwen2")
ROWS_A_THREAD = 16
"""Products of fewer rows are padded: kernels made for few rows round differently, and then what a row comes to would
depend on how many neighbours it has. Six a thread were enough where it was tried (MKL)."""
JOINING_PAYS = 512
"""Tokens from which on copying weights side by side costs less than it saves."""
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(layer, queries [N, heads, size], keys [N, kv heads, size], values) -> [N, heads, size]."""


class Network:
    """The layers of a transformers model, by reference: an update of the model's weights is seen at once."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        if config.model_type not in FAMILIES:
            raise ConfigurationError(
                f"a {config.model_type} model cannot run on the CPU backend, which knows {' and '.join(FAMILIES)}; "
                "choose such a policy, or train.backend: gpu"
            )
        self.body = model.get_submodule("model")
        self.layers = self.body.get_submodule("layers")
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps = config.rms_norm_eps
        self.depth = config.num_hidden_layers
        self.head = model.get_output_embeddings()
        self._joint: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor | None]] = {}

    @torch.no_grad()
    def join(self) -> None:
        """Lay weights that share an input side by side in memory, so that one product serves them; for generation.

        The model's own weights become views of that memory: an update of their values is still seen at once.
        """
        for layer in self.layers:
            for group in _groups(layer):
                weight = _lay_out([part.weight for part in group])
                bias = None if group[0].bias is None else _lay_out([part.bias for part in group])
                self._joint[group[0]] = weight, bias

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.body.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.body.embed_tokens.weight.dtype

    def hidden(self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Final hidden states [N, width] of flat `tokens` [N] that stand at `positions` [N] of their sequences."""
        count, lacking = len(tokens), max(0, _fewest_rows() - len(tokens))
        x = self.body.embed_tokens(F.pad(tokens, (0, lacking)))
        positions = F.pad(positions, (0, lacking))
        cos, sin = self._rotation(x, positions)
        for index, layer in enumerate(self.layers):
            x = x + self._attention(index, layer, x, cos, sin, attend, count)
            y = F.rms_norm(x, (x.shape[-1],), layer.post_attention_layernorm.weight, self.eps)
            gate, up = self._project(y, _groups(layer)[1]).chunk(2, dim=-1)
            x = x + layer.mlp.down_proj(F.silu(gate) * up)
        return F.rms_norm(x[:count], (x.shape[-1],), self.body.norm.weight, self.eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, fp32, [N, vocabulary]."""
        assert self.head is not None, "a value model has no logits"
        lacking = max(0, _fewest_rows() - len(hidden))
        return self.head(F.pad(hidden, (0, 0, 0, lacking)))[: len(hidden)].float()

    def _attention(
        self,
        index: int,
        layer: torch.nn.Module,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        attend: Attend,
        count: int,
    ) -> torch.Tensor:
        """What attention adds to x [N, width]; only the first `count` rows are tokens, the rest is padding."""
        own = layer.self_attn
        y = F.rms_norm(x, (x.shape[-1],), layer.input_layernorm.weight, self.eps)
        both = self.heads + self.kv_heads
        heads = self._project(y, _groups(layer)[0]).view(len(y), both + self.kv_heads, self.size)
        turned, values = rotate(heads[:, :both], cos, sin), heads[:, both:]
        queries, keys = turned[:count, : self.heads], turned[:count, self.heads :]
        found = attend(index, queries, keys, values[:count]).reshape(count, -1)
        return own.o_proj(F.pad(found, (0, 0, 0, len(x) - count)))

    def _project(self, x: torch.Tensor, layers: Sequence[torch.nn.Module]) -> torch.Tensor:
        """Several linear layers of one input: one product where they lie side by side or moving them pays."""
        if layers[0] in self._joint:
            return F.linear(x, *self._joint[layers[0]])
        if len(x) < JOINING_PAYS:
            return torch.cat([layer(x) for layer in layers], dim=-1)
        weight = torch.cat([layer.weight for layer in layers])
        return F.linear(x, weight, None if layers[0].bias is None else torch.cat([layer.bias for layer in layers]))

    def _rotation(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines as `rotate` takes them."""
        cos, sin = self.body.rotary_emb(x, positions[None])
        first, second = sin[0].chunk(2, dim=-1)
        return cos[0][:, None], torch.cat((-first, second), dim=-1)[:, None]


def _fewest_rows() -> int:
    return ROWS_A_THREAD * int(torch.get_num_threads())


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, half-split layout (Su et al. 2021); x [N, heads, size], the rest [N, 1, size].

    The first half of `sin` is negative: it goes with the second half of `x`.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _groups(layer: torch.nn.Module) -> tuple[tuple[torch.nn.Module, ...], ...]:
    """A layer's projections that share an input."""
    own = layer.self_attn
    return (own.q_proj, own.k_proj, own.v_proj), (layer.mlp.gate_proj, layer.mlp.up_proj)


def _lay_out(weights: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    joint = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, joint.split([len(weight) for weight in weights]), strict=True):
        weight.data = part
    return joint
