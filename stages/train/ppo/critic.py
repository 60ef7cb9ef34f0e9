"""The critic's network on GPUs, with the attention that the configuration asks for."""

from __future__ import annotations

from typing import Any

import torch

from stages.train.ppo.job import Job


def load(local_path: str, torch_dtype: torch.dtype, model_config: Any, trust_remote_code: bool) -> torch.nn.Module:
    """The policy's weights under a head for one value a token [B, T, 1], which begins the same in every process."""
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(Job.load().seed)
    model: torch.nn.Module = AutoModelForTokenClassification.from_pretrained(
        local_path, dtype=torch_dtype, config=model_config, trust_remote_code=trust_remote_code
    )
    return model


def install() -> None:
    """verl 0.9 asks for FlashAttention's package here, and without it says that the model has no value head."""
    import verl.utils.model as models

    models.load_valuehead_model = load
