"""A policy's size, from its configuration alone: the network is built on torch's meta device, where nothing is kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Shape:
    """Of a decoder with gated feed-forward blocks; counts are exact for any architecture that transformers knows."""

    parameters: int
    """Of the policy; tied embeddings count once."""
    critic_parameters: int
    """The same network with a value head in place of the output embedding."""
    root_parameters: int
    """Outside of the layers: embeddings, final norm, output embedding."""
    adapted: int
    """Inputs plus outputs of all linear maps but the output embedding: a LoRA of rank r has r times as many."""
    layers: int
    width: int
    inner: int
    """Width of a feed-forward block."""
    heads: int
    kv_heads: int
    head: int
    """Width of a head."""
    vocabulary: int

    @property
    def layer_parameters(self) -> int:
        """Of one layer, rounded up."""
        return -(-(self.parameters - self.root_parameters) // self.layers)

    def kv_bytes(self, size: int) -> int:
        """Of one token's keys and values in all layers, `size` bytes a number."""
        return 2 * self.layers * self.kv_heads * self.head * size

    @staticmethod
    def of(config: PretrainedConfig) -> Shape:
        """The shape that a config.json means.

        Raises ConfigurationError for a model that transformers cannot build as a causal language model.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

        valued = copy.deepcopy(config)
        valued.num_labels = 1
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
                critic = AutoModelForTokenClassification.from_config(valued)
        except (ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"train.policy is a {config.model_type} model, which cannot be trained here ({error}); choose another"
            ) from error
        total = _count(model)
        return Shape(
            parameters=total, critic_parameters=_count(critic),
            root_parameters=total - sum(_count(layer) for layer in model.model.layers), adapted=_adapted(model),
            layers=config.num_hidden_layers, width=config.hidden_size, inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary=config.vocab_size,
        )  # fmt: skip


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _adapted(model: nn.Module) -> int:
    from torch.nn import Linear

    layers = (module for layer in model.model.layers for module in layer.modules())
    return sum(module.in_features + module.out_features for module in layers if isinstance(module, Linear))
