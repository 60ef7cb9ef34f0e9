"""Steps of TRL's GRPOTrainer on the batch of `ppo_step.py`, which runs this in an environment of its own.

    python tests/bench/peers/trl_step.py FOLDER STEPS

FOLDER holds the policy, its tokenizer and batch.json. Prints JSON: CPU seconds of each update on episodes that were
played already (what comes before the update, as decoding texts and padding, left out), and of each whole step, which
generates as many tokens for every prompt as `written` says, scores and updates. One thread.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.process_time() - self._began)


class Timed(GRPOTrainer):
    """Knows what of a step comes before its update."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.preparing: list[float] = []

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        began = time.process_time()
        prepared = super()._generate_and_score_completions(inputs)
        self.preparing.append(time.process_time() - began)
        return prepared


def score(completions: list[str], **_: Any) -> list[float]:
    """Not the same within a group, so that every episode has an advantage."""
    return [float(place % 3) for place in range(len(completions))]


def steps(folder: Path, batch: dict[str, Any], count: int, *, played: bool) -> tuple[list[float], list[float]]:
    """CPU seconds of whole steps, and of what of them came before the update; the first of each does not count."""
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")

    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        return {"prompt_ids": batch["prompts"], "completion_ids": batch["responses"], "logprobs": None,
                "env_mask": batch["own"]}  # fmt: skip

    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        settings = GRPOConfig(
            output_dir=place, use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=10**6,
            max_steps=count + 1, per_device_train_batch_size=batch["micro_batch"],
            gradient_accumulation_steps=len(batch["prompts"]) // batch["micro_batch"],
            num_generations=batch["episodes"], max_completion_length=batch["written"], learning_rate=batch["rate"],
            lr_scheduler_type="constant", max_grad_norm=batch["most_gradient"], epsilon=batch["clip"], beta=0.0,
            loss_type="dapo", temperature=1.0, gradient_checkpointing=False, shuffle_dataset=False,
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Timed(
            model=model, reward_funcs=score, args=settings, processing_class=words, callbacks=[clock],
            train_dataset=Dataset.from_dict({"prompt": batch["texts"] * (count + 1)}),
            rollout_func=rollout if played else None,
        )  # fmt: skip
        trainer.train()
    return clock.steps[1:], trainer.preparing[1:]


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    batch = json.loads((folder / "batch.json").read_text())
    whole, before = steps(folder, batch, count, played=True)
    updates = [step - part for step, part in zip(whole, before, strict=True)]
    print(json.dumps({"update": updates, "step": steps(folder, batch, count, played=False)[0]}))


if __name__ == "__main__":
    main()
