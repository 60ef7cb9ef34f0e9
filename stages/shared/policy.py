"""A policy on disk: a Hugging Face folder, its tokenizer and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared.errors import DataError
from stages.shared.files import read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer of a policy folder.

    A folder that names the generic class is read by that class: `AutoTokenizer` of transformers 5 looks at the model's
    type instead, and silently splits a Qwen2-shaped model's text with Qwen2's own rules. One without a token for
    padding (Llama 3.2) pads with the end of its text, which is masked there. Raises DataError.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(folder)
    try:
        settings = read_json(path / "tokenizer_config.json")
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'tokenizer_config.json'} is not readable: {error}; {_way_out(path)}") from error
    kind = PreTrainedTokenizerFast if settings.get("tokenizer_class") in GENERIC else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(folder: Path | str, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The weights of a policy folder as a transformers model in evaluation mode, fp32 unless `dtype` says otherwise.

    Raises DataError when the folder holds no weights.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = Path(folder)
    if not any((path / name).is_file() for name in WEIGHTS):
        raise DataError(f"{path}: no {WEIGHTS[0]} in it; {_way_out(path)}")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype or torch.float32)
    return model.eval()


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Token ids that end a generation: the tokenizer's, and those of the model's own configuration."""
    found: set[int] = set()
    for source in (
        tokenizer.eos_token_id,
        model.config.eos_token_id,
        getattr(model.generation_config, "eos_token_id", None),
    ):
        found.update(source if isinstance(source, (list, tuple)) else [] if source is None else [source])
    return frozenset(found)


def _way_out(path: Path) -> str:
    return f"a policy is a Hugging Face folder, written by the train stage; is {path} the right one?"
