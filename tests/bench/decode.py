"""Tokens a CPU second of `BatchedGenerator` against transformers' own `generate`: one tiny model, the same lengths.

One thread, and CPU seconds, because other work on the machine bends wall time. Run by hand as
`python tests/bench/decode.py`, or by `make bench`; writes metrics/bench/decode.json.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.shared.batching import BatchedGenerator  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import TinyPolicy  # noqa: E402
from stages.train.tiny.model import build_model  # noqa: E402
from stages.train.tiny.tokenizer import build_tokenizer  # noqa: E402

TABLE, QUESTION, WRITTEN = 115, 15, 32
"""Tokens of the candidates' table, of the question after it, and of a turn."""
RUNS = 5


@dataclass(frozen=True)
class Case:
    """Prompts of one length, each continued `samples` times."""

    name: str
    prompts: int
    samples: int
    one_table: bool
    temperature: float
    limit: float
    """Least times as many tokens a CPU second as transformers."""

    def contexts(self, vocabulary: int, seed: int) -> list[list[int]]:
        """One for every generation."""
        rng = random.Random(seed)

        def some(count: int) -> list[int]:
            """Random tokens."""
            return [rng.randrange(8, vocabulary) for _ in range(count)]

        table = some(TABLE)
        prompts = [[*(table if self.one_table else some(TABLE)), *some(QUESTION)] for _ in range(self.prompts)]
        return [prompt for prompt in prompts for _ in range(self.samples)]


CASES = (
    Case("greedy, 128 questions to one table", 128, 1, one_table=True, temperature=0.0, limit=1.5),
    Case("sampled, 8 times 16 prompts", 16, 8, one_table=False, temperature=1.0, limit=1.5),
    Case("greedy, one question", 1, 1, one_table=True, temperature=0.0, limit=0.5),
)
"""One question alone is slower than with transformers: its steps are nearly all overhead."""


def theirs(model: Any, contexts: list[list[int]], temperature: float) -> None:
    """transformers' generate on the whole batch; prompts are of one length, so that nothing is padded."""
    ids = torch.tensor(contexts)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    with torch.inference_mode():
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=WRITTEN, **sampling)
    assert written.shape[1] == len(contexts[0]) + WRITTEN


async def ours(generator: BatchedGenerator, contexts: list[list[int]], temperature: float) -> None:
    """The same through concurrent callers, as episodes are."""
    written = await asyncio.gather(
        *[generator.generate(context, max_tokens=WRITTEN, temperature=temperature) for context in contexts]
    )
    assert all(len(generation.token_ids) == WRITTEN for generation in written)


async def measure(case: Case, model: Any, tokenizer: Any) -> dict[str, object]:
    """Both in turn on prompts that neither has seen, `RUNS` times after one that does not count."""
    own, other = [], []
    async with BatchedGenerator(model, tokenizer) as generator:
        for run in range(RUNS + 1):
            contexts = case.contexts(len(tokenizer), seed=run)
            began = time.process_time()
            theirs(model, contexts, case.temperature)
            between = time.process_time()
            await ours(generator, contexts, case.temperature)
            other.append(WRITTEN * len(contexts) / (between - began))
            own.append(WRITTEN * len(contexts) / (time.process_time() - between))
    mine, reference = median(own[1:]), median(other[1:])
    return {
        "name": case.name, "ours": round(mine, 1), "against": f"transformers {transformers.__version__} generate",
        "theirs": round(reference, 1), "limit": case.limit, "ratio": round(mine / reference, 2), "unit": "tokens/CPU s",
        "runs": RUNS, "command": "python tests/bench/decode.py",
    }  # fmt: skip


def main() -> None:
    """Measure, print and write every case."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    policy = TinyPolicy(width=128, layers=5, heads=4)
    model = build_model(policy, len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, seed=0).eval()
    tokenizer.eos_token = model.config.eos_token_id = model.generation_config.eos_token_id = None
    rows = [asyncio.run(measure(case, model, tokenizer)) for case in CASES]
    for row in rows:
        print(
            f"{row['name']}: {row['ours']} {row['unit']}, {row['against']} {row['theirs']}; "
            f"{row['ratio']} times, at least {row['limit']} wanted"
        )
    write_json(ROOT / "metrics" / "bench" / "decode.json", rows)


if __name__ == "__main__":
    main()
