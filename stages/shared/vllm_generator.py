"""A policy that vLLM runs, on GPUs: `VllmGenerator` does for the episode driver what `BatchedGenerator` does on a CPU.

vLLM generates tokens from tokens. Where a turn ends is found here, by the same rules as everywhere else, so that a
greedy episode is the one that was evaluated but for the last bits of the arithmetic.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stages.shared.episode.types import Generate, Generation
from stages.shared.errors import ConfigurationError
from stages.shared.files import read_json
from stages.shared.policy import load_tokenizer
from stages.shared.stops import StopFinder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = ("auto", "bfloat16", "float16", "float32")


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs a policy."""

    dtype: str = "auto"
    """`auto` is the weights' own, and bfloat16 or float16 for float32."""
    memory: float = 0.4
    """Share of a GPU's memory: less than a half, since two releases are in memory while one takes the other's place."""

    def load(self, folder: Path, rows: int, tokens: int) -> tuple[PreTrainedTokenizerBase, VllmGenerator]:
        """The tokenizer and the generator of a policy folder. Raises ConfigurationError without vLLM."""
        check_vllm()
        tokenizer = load_tokenizer(folder)
        return tokenizer, VllmGenerator(self, folder, tokenizer, rows, tokens)


def check_vllm() -> None:
    """Raise ConfigurationError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise ConfigurationError(
            "vLLM is not installed here: it has an environment of its own, infra/images/requirements-gpu.txt; "
            "without --engine vllm this machine's CPU serves"
        )


class VllmGenerator:
    """Generates for many callers at once. Use as `async with VllmGenerator(...) as generator`."""

    def __init__(
        self, settings: VllmSettings, folder: Path, tokenizer: PreTrainedTokenizerBase, rows: int, tokens: int
    ) -> None:
        """At most `rows` sequences of at most `tokens` tokens, prompt included, are generated at once; others wait."""
        self._settings = settings
        self._folder = folder
        self._rows = rows
        self._tokens = tokens
        self._ends = sorted({*_ends(folder), *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})
        self._stops = StopFinder(tokenizer, len(tokenizer))
        self._numbers = itertools.count()
        self._engine: Any = None

    async def __aenter__(self) -> VllmGenerator:
        self._engine = await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._engine.shutdown)

    def sampler(self) -> Generate:
        """The episode driver's `Generate`, greedy."""
        return self.generate

    async def generate(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """Continue `context`, greedily, until a stop string (kept in the tokens), an end token or `max_tokens`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            temperature=0.0, max_tokens=max_tokens, stop_token_ids=self._ends, ignore_eos=True, detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )  # fmt: skip
        prompt, number = {"prompt_token_ids": list(context)}, f"turn-{next(self._numbers)}"
        written: list[int] = []
        async with aclosing(self._engine.generate(prompt, sampling, number)) as outputs:
            async for output in outputs:
                for token in output.outputs[0].token_ids:
                    written.append(token)
                    if token in self._ends or self._stops.completes(token, written, 0, stop):
                        return Generation(tuple(written), None, "stop")
        return Generation(tuple(written), None, "length")

    def _start(self) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")  # compiled at first use, and nothing is sampled here
        arguments = AsyncEngineArgs(
            model=str(self._folder), skip_tokenizer_init=True, dtype=self._settings.dtype, max_num_seqs=self._rows,
            max_model_len=self._tokens, gpu_memory_utilization=self._settings.memory, enable_prefix_caching=True,
            disable_log_stats=True, generation_config="vllm",
        )  # fmt: skip
        return AsyncLLM.from_engine_args(arguments)


def _ends(folder: Path) -> Iterator[int]:
    """Token ids that end a generation by the model's own configuration."""
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        found = read_json(path).get("eos_token_id") if path.is_file() else None
        yield from found if isinstance(found, list) else [] if found is None else [found]
