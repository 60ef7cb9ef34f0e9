"""CPU seconds of a PPO update by verl's engine on the CPU, beside plain torch: same weights, batch, loss and optimizer.

verl's part: its engine as training runs it (`CpuEngine`), with its own PPO loss, micro-batches, clipping and AdamW.
Two floors. The strict one calls our own packed forward pass without verl, and tells what verl costs. The usual one is
transformers' forward pass on the same episodes, padded, as one would write it, and tells what the packed pass saves.
Ray, and what moves data between its processes, are in neither. The lengths are those of the sandbox's training.

The peer is TRL, in an environment of its own (`make bench` makes it): its GRPOTrainer does what the sandbox's training
does, a clipped policy gradient a token with a group's baseline and no critic; it is given the same episodes, tokens of
candidates masked, and takes no log-probabilities before the update either. A whole step adds generation, of as many
tokens for every prompt, by what either trains with on a CPU: our `BatchedGenerator`, and transformers.

Run by hand as `python tests/bench/ppo_step.py`, or by `make bench`; writes metrics/bench/ppo_step.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "stages.train.ppo.plugin"}

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from verl.trainer.config import CheckpointConfig  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.workers.config import FSDPActorConfig, FSDPEngineConfig, HFModelConfig  # noqa: E402
from verl.workers.config.optimizer import FSDPOptimizerConfig  # noqa: E402
from verl.workers.utils.losses import ppo_loss  # noqa: E402
from verl.workers.utils.padding import left_right_2_no_padding  # noqa: E402

from stages.shared.batching import BatchedGenerator  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.network import Network  # noqa: E402
from stages.shared.params import EpisodeParams, PoolLimits, RewardParams, TinyPolicy  # noqa: E402
from stages.shared.policy import load_policy  # noqa: E402
from stages.shared.pool.ledger import Place  # noqa: E402
from stages.train.ppo.engine import CpuEngine, Tree  # noqa: E402
from stages.train.ppo.job import VARIABLE, Job  # noqa: E402
from stages.train.tiny.model import build_model  # noqa: E402
from stages.train.tiny.tokenizer import build_tokenizer  # noqa: E402

RUNS = 3
LIMIT = 1.5
QUESTIONS, EPISODES, MICRO_BATCH = 16, 8, 64
PROMPT, RESPONSE = 256, 208
WRITTEN = 80
"""Tokens of a response in a whole step: the mean of the lengths above."""
PEER = ROOT / ".venv-bench" / "bin" / "python"
CLIP, ENTROPY, RATE, MOST_GRADIENT = 0.2, 1e-3, 3e-4, 1.0
Batch = dict[str, torch.Tensor]


def make_batch(vocabulary: int) -> Batch:
    """Prompts of 150 to 220 tokens, eight episodes each, of 30 to 130, of which seven tenths are the policy's own."""
    generator = torch.Generator().manual_seed(1)
    count = QUESTIONS * EPISODES

    def drawn(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    prompts = drawn(8, vocabulary, QUESTIONS, PROMPT).repeat_interleave(EPISODES, 0)
    asked = torch.arange(PROMPT)[None] >= PROMPT - drawn(150, 221, QUESTIONS).repeat_interleave(EPISODES)[:, None]
    answered = torch.arange(RESPONSE)[None] < drawn(30, 131, count)[:, None]
    own = answered & (torch.rand(count, RESPONSE, generator=generator) < 0.7)
    own[:, 0] = True
    return {
        "prompts": prompts, "responses": drawn(8, vocabulary, count, RESPONSE),
        "attention_mask": torch.cat((asked, answered), 1).long(), "response_mask": own.long(),
        "old_log_probs": -torch.rand(count, RESPONSE, generator=generator),
        "advantages": torch.randn(count, 1, generator=generator).expand(count, RESPONSE).contiguous(),
    }  # fmt: skip


def verls(folder: Path) -> Callable[[Batch], None]:
    """An update by verl's engine."""
    engine = CpuEngine(
        HFModelConfig(
            path=str(folder),
            use_remove_padding=False,
            enable_gradient_checkpointing=False,
            override_config={"attn_implementation": "sdpa"},
        ),
        FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False),
        FSDPOptimizerConfig(lr=RATE, clip_grad=MOST_GRADIENT, total_training_steps=100),
        CheckpointConfig(),
    )
    engine.initialize()
    config = FSDPActorConfig(
        strategy="fsdp2", rollout_n=EPISODES, clip_ratio=CLIP, clip_ratio_low=CLIP, clip_ratio_high=CLIP,
        entropy_coeff=ENTROPY, ppo_mini_batch_size=QUESTIONS, ppo_micro_batch_size_per_gpu=MICRO_BATCH,
    )  # fmt: skip

    def update(batch: Batch) -> None:
        data = TensorDict(dict(batch), batch_size=len(batch["prompts"]))
        data["input_ids"] = torch.cat((batch["prompts"], batch["responses"]), 1)
        data["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        data = left_right_2_no_padding(data)
        tu.assign_non_tensor(
            data, temperature=1.0, calculate_entropy=True, use_dynamic_bsz=False, micro_batch_size_per_gpu=MICRO_BATCH,
            global_batch_size=len(batch["prompts"]), compute_loss=True, use_remove_padding=False,
        )  # fmt: skip
        with engine.train_mode():
            output = engine.train_batch(data, lambda model_output, data, dp_group: ppo_loss(
                config, model_output, data, dp_group
            ))  # fmt: skip
        assert torch.isfinite(torch.tensor(output["metrics"]["grad_norm"]))

    return update


def plain(model: Any, batch: Batch, scores: Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor]]) -> None:
    """One update without verl; `scores` gives log-probability and entropy of the policy's own tokens, flat."""
    optimizer = model.optimizer
    optimizer.zero_grad()
    own = int(batch["response_mask"].sum())
    for start in range(0, len(batch["prompts"]), MICRO_BATCH):
        part = {name: value[start : start + MICRO_BATCH] for name, value in batch.items()}
        mask = part["response_mask"].bool()
        taken, entropy = scores(model, part)
        ratio, advantage = (taken - part["old_log_probs"][mask]).exp(), part["advantages"][mask]
        gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        (-(gain.sum() + ENTROPY * entropy.sum()) / own).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MOST_GRADIENT)
    optimizer.step()


def packed(model: Any, part: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Our own forward pass: no padding, and a prompt once for all its episodes."""
    network = Network(model)
    tree = Tree.build(part["prompts"], part["responses"], part["attention_mask"])
    hidden = network.hidden(tree.tokens, tree.positions, tree.attend)
    wrote = part["response_mask"].bool()[tree.response_owner, tree.response_place]
    chances = network.logits(hidden[tree.before[wrote]]).log_softmax(-1)
    taken = tree.tokens[len(tree.prompt_owner) :][wrote]
    return chances.gather(1, taken[:, None])[:, 0], -(chances.exp() * chances).sum(-1)


def padded(model: Any, part: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers on the padded batch; logits of the response alone."""
    ids, seen = torch.cat((part["prompts"], part["responses"]), 1), part["attention_mask"]
    places = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=seen, position_ids=places, logits_to_keep=RESPONSE + 1).logits[:, :-1]
    mask = part["response_mask"].bool()
    chances = logits[mask].log_softmax(-1)
    return chances.gather(1, part["responses"][mask][:, None])[:, 0], -(chances.exp() * chances).sum(-1)


async def play(model: Any, words: Any, prompts: list[list[int]]) -> list[tuple[int, ...]]:
    """A response of `WRITTEN` tokens to every prompt."""
    async with BatchedGenerator(model, words, max_rows=len(prompts)) as generator:
        written = await asyncio.gather(
            *[generator.generate(prompt, max_tokens=WRITTEN, temperature=1.0) for prompt in prompts]
        )
    return [generation.token_ids for generation in written]


def laid_out(prompts: list[list[int]], responses: list[tuple[int, ...]]) -> Batch:
    """Played episodes as a padded batch, advantages from a group's baseline left to chance."""
    count, generator = len(prompts), torch.Generator().manual_seed(2)
    asked, answered = torch.zeros(count, PROMPT, dtype=torch.long), torch.zeros(count, RESPONSE, dtype=torch.long)
    seen = torch.zeros(count, PROMPT + RESPONSE, dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        asked[row, PROMPT - len(prompt) :] = torch.tensor(prompt)
        answered[row, : len(response)] = torch.tensor(response)
        seen[row, PROMPT - len(prompt) : PROMPT + len(response)] = 1
    return {
        "prompts": asked, "responses": answered, "attention_mask": seen, "response_mask": seen[:, PROMPT:].clone(),
        "old_log_probs": -torch.rand(count, RESPONSE, generator=generator),
        "advantages": torch.randn(count, 1, generator=generator).expand(count, RESPONSE).contiguous(),
    }  # fmt: skip


def episodes(batch: Batch) -> dict[str, list[list[int]]]:
    """A padded batch as lists: prompts, responses, and which of a response's tokens are the policy's own."""
    seen = batch["attention_mask"].bool()
    rows = range(len(seen))
    return {
        "prompts": [batch["prompts"][row][seen[row, :PROMPT]].tolist() for row in rows],
        "responses": [batch["responses"][row][seen[row, PROMPT:]].tolist() for row in rows],
        "own": [batch["response_mask"][row][seen[row, PROMPT:]].tolist() for row in rows],
    }


def peers(folder: Path, batch: Batch, texts: list[str]) -> dict[str, float] | None:
    """TRL's CPU seconds; None, said, where it is not installed."""
    if not PEER.exists():
        print("TRL is not measured: it has an environment of its own, which `make bench` makes")
        return None
    told = {
        **episodes(batch), "texts": texts, "episodes": EPISODES, "micro_batch": MICRO_BATCH, "written": WRITTEN,
        "rate": RATE, "clip": CLIP, "most_gradient": MOST_GRADIENT,
    }  # fmt: skip
    write_json(folder / "batch.json", told)
    command = [str(PEER), str(ROOT / "tests/bench/peers/trl_step.py"), str(folder), str(RUNS)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    said = subprocess.run(command, env=clean, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: median(found) for name, found in json.loads(said.splitlines()[-1]).items()}


def seconds(updates: dict[str, Callable[[], None]]) -> dict[str, float]:
    """CPU seconds of each, taken in turn; the first round does not count."""
    spent: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(RUNS + 1):
        for name, update in updates.items():
            began = time.process_time()
            update()
            spent[name].append(time.process_time() - began)
    return {name: median(values[1:]) for name, values in spent.items()}


def endless(folder: Path) -> Any:
    """The policy for generation, which never says that it is at an end."""
    model = load_policy(folder)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return model


def row(what: str, ours: str, found: dict[str, float], against: str, theirs: float, limit: float) -> dict[str, object]:
    """One line of metrics/bench/ppo_step.json."""
    return {
        "name": f"PPO {what} of {QUESTIONS * EPISODES} episodes", "ours": round(found[ours], 3), "against": against,
        "theirs": round(theirs, 3), "limit": limit, "ratio": round(found[ours] / theirs, 2),
        "unit": "CPU s, less is better", "runs": RUNS, "command": "python tests/bench/ppo_step.py",
    }  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    words = build_tokenizer()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        policy = TinyPolicy(width=128, layers=5, heads=4)
        model = build_model(policy, len(words), words.pad_token_id, words.eos_token_id, seed=0)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        words.eos_token = None
        job = Job(policy=folder, notes=folder, candidates=(), descriptors=(), limits=PoolLimits(), seed=0,
                  ledger=Place(folder, "train", "bench"), episode=EpisodeParams(), reward=RewardParams())  # fmt: skip
        os.environ[VARIABLE] = str(job.save(folder / "job.json"))
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        batch = make_batch(len(words))
        texts = [words.decode(prompt) for prompt in episodes(batch)["prompts"][::EPISODES]]
        prompts = [ids for ids in words(texts, add_special_tokens=False)["input_ids"] for _ in range(EPISODES)]
        model.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        update, mute = verls(folder), endless(folder)
        found = seconds({
            "verl": lambda: update(batch),
            "packed": lambda: plain(model, batch, packed),
            "padded": lambda: plain(model, batch, padded),
            "step": lambda: update(laid_out(prompts, asyncio.run(play(mute, words, prompts)))),
        })  # fmt: skip
        theirs = peers(folder, batch, texts)
        dist.destroy_process_group()
    rows = [
        row("update", "verl", found, "plain torch on the same packed pass", found["packed"], LIMIT),
        row("update", "verl", found, "plain torch, transformers on padded episodes", found["padded"], LIMIT),
    ]
    if theirs is not None:
        rows += [
            row("update", "verl", found, "TRL's GRPOTrainer", theirs["update"], 1.0),
            row("step, generation included,", "step", found, "TRL's GRPOTrainer", theirs["step"], 1.0),
        ]
    for each in rows:
        print(f"{each['name']}: {each['ours']} s; {each['against']}: {each['theirs']} s; {each['ratio']} times, "
              f"at most {each['limit']} wanted")  # fmt: skip
    write_json(ROOT / "metrics" / "bench" / "ppo_step.json", rows)


if __name__ == "__main__":
    main()
