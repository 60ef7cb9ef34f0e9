"""What runs a policy: transformers' weights on this machine's CPU, or vLLM on GPUs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.shared.episode.types import Generate
from stages.shared.vllm_generator import VllmSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.shared.params import Params


class Generator(Protocol):
    """A loaded policy: `BatchedGenerator` or `VllmGenerator`."""

    def sampler(self) -> Generate:
        """The episode driver's `Generate`, greedy."""
        ...


Engine = Callable[[Path, int, int], "tuple[PreTrainedTokenizerBase, AbstractAsyncContextManager[Generator]]"]
"""Loads the policy of a folder, for so many sequences at once of so many tokens at most, prompt included."""


def on_this_cpu(
    folder: Path, rows: int, tokens: int
) -> tuple[PreTrainedTokenizerBase, AbstractAsyncContextManager[Generator]]:
    """The `Engine` that transformers' weights run on here; memory grows with what is generated, up to `rows`."""
    from transformers.utils.logging import disable_progress_bar

    from stages.shared.batching import BatchedGenerator
    from stages.shared.policy import load_policy, load_tokenizer

    disable_progress_bar()
    tokenizer = load_tokenizer(folder)
    return tokenizer, BatchedGenerator(load_policy(folder), tokenizer, max_rows=rows)


def engine_of(params: Params) -> Engine:
    """Where a policy is trained it is evaluated: `train.backend`."""
    return on_this_cpu if params.train.backend == "cpu" else VllmSettings().load
