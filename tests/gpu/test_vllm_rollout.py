"""The rollout of the GPU profiles, on vLLM's CPU build: their overlay, verl's vLLM server, its transfer of weights.

Run by `make test-vllm`, in an environment of its own. What a CPU asks for otherwise is in `ON_A_CPU`, all of it. Where
a GPU is, and an environment of infra/images/requirements-gpu.txt, it runs as the profiles do, in bf16.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import make_roster
from stages.shared.params import Params, TinyPolicy, parse_params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question
from stages.train.ppo.record import LOGS, StepRecord, read_records
from stages.train.ppo.stage import Inputs, ppo
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm", exc_type=ImportError)
pytestmark = pytest.mark.slow

PROFILES = Path(__file__).resolve().parents[2] / "infra" / "profiles"
ON_GPU = torch.cuda.is_available()
STEPS = 3
TOLERANCE = 1e-3
"""Of a log-probability. Both compute in fp32, with other kernels and in another order: an order of magnitude more than
what rounding came to. One weight that was not transferred, or one token out of place, shifts them by far more."""
IN_BF16 = 2e-2
"""On average. Eleven steps of a sandbox policy on an H100 came to 2e-3 to 6e-3; single tokens are up to 1.2 apart."""
ROLLOUT = "actor_rollout_ref.rollout"
ON_A_CPU = {
    "trainer.device": "cpu",
    "ray_kwargs.ray_init.num_cpus": 16,
    "ray_kwargs.ray_init.num_gpus": 1,
    "ray_kwargs.ray_init.include_dashboard": False,
    "ray_kwargs.ray_init.object_store_memory": 200_000_000,
    "actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    "critic.model.override_config.attn_implementation": "sdpa",
    "actor_rollout_ref.actor.use_torch_compile": False,
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
    "critic.fsdp.use_torch_compile": False,
    f"{ROLLOUT}.agent.num_workers": 1,
    f"{ROLLOUT}.dtype": "float32",
    f"{ROLLOUT}.enforce_eager": True,
    f"{ROLLOUT}.engine_kwargs.vllm.enable_sleep_mode": False,
    f"{ROLLOUT}.free_cache_engine": False,
    f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": 64,
}  # fmt: skip
ENVIRONMENT = {
    "VERL_PLATFORM": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip
NAMES = ("Arlix", "Bomon", "Cyqun", "Devex", "Elzor", "Fitus")
EPISODE = {
    "prompt": "compact", "prompt_tokens": 256, "response_tokens": 160, "turn_tokens": 48, "max_calls": 2,
    "reply_tokens": 24,
}  # fmt: skip


def small() -> Params:
    """The paper's profile for Qwen2.5, with a small policy and simulated candidates."""
    paper, smoke = (yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) for name in ("paper-qwen", "smoke"))
    batch = {
        "steps": STEPS, "questions": 8, "mini_batch": 8, "micro_batch": 8, "save_every": STEPS,
        "validate_every": STEPS, "top_p": 1.0, "learning_rate": 1e-3, "critic_learning_rate": 3e-4,
    }  # fmt: skip
    train = paper["train"] | {
        "policy": smoke["train"]["policy"], "ppo": paper["train"]["ppo"] | batch,
        "gpus_per_node": 1,
        "roster": {"shuffle": False, "rename": 0.0, "smallest": len(NAMES)}, "overrides": {} if ON_GPU else ON_A_CPU,
    }  # fmt: skip
    return parse_params(smoke | {"episode": EPISODE, "train": train}, "vllm")


def descriptors() -> list[Descriptor]:
    return [Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.7, 0.7, 20)}) for name in NAMES]


def questions() -> list[Question]:
    return [Question(f"what is the quarry of zuma {i} ?", ("a",), "nq", "train", "stone", 1) for i in range(16)]


def write_policy(folder: Path) -> None:
    """A network that has learned one way to call and to answer, so that episodes have turns and replies in them."""
    words = build_tokenizer()
    model = build_model(TinyPolicy(width=64, layers=2, heads=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    examples = [demonstration(words, question) for question in questions()]
    for step in range(60):
        ids, labels = examples[step % len(examples)]
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def demonstration(words: Any, question: Question) -> tuple[list[int], list[int]]:
    """Token ids of an episode, and those to learn."""
    prompt = chat_ids(words, render_prompt(question.question, make_roster(descriptors()), "compact"))
    said = [
        ("<think> topic stone </think> <search> Arlix : what is the quarry ? </search>", True),
        ("<information> i do not understand the question </information>", False),
        ("<think> done </think> <answer> unknown </answer>", True),
    ]
    ids, labels = list(prompt), [-100] * len(prompt)
    for text, own in said:
        found = words.encode(text, add_special_tokens=False)
        ids += found
        labels += found if own else [-100] * len(found)
    return ids, labels


@dataclass(frozen=True)
class Trained:
    """What a run left."""

    records: Sequence[StepRecord]
    logged: Sequence[dict[str, float]]
    """verl's metrics, a training step each."""
    log: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = tmp_path_factory.mktemp("vllm")
    (place / "run").mkdir()
    write_policy(place / "policy")
    inputs = Inputs(questions(), questions()[:4], descriptors())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, value in ({} if ON_GPU else ENVIRONMENT).items():
            patch.setenv(name, value)
        began = time.monotonic()
        ppo(small(), place / "policy", inputs, place / "run", place / "state")
        print(f"\n{STEPS} steps in {time.monotonic() - began:.0f} s")
    lines = [json.loads(line) for path in (place / "run").glob(LOGS) for line in path.read_text().splitlines()]
    logged = [line["data"] for line in lines if "training/rollout_gap_max" in line["data"]]
    return Trained(read_records(place / "run"), logged, (place / "state" / "logs" / "train.log").read_text())


def test_every_step_is_played_by_vllm_and_updates_the_policy(trained: Trained) -> None:
    steps = [record for record in trained.records if record.phase == "train"]
    assert [record.step for record in steps] == list(range(1, STEPS + 1))
    assert sum(record.calls for record in steps) > 0, "no episode called anybody: its turns were never interleaved"
    assert all(step["actor/grad_norm"] > 0 for step in trained.logged)
    assert "--worker_extension_cls" in trained.log, "no server of vLLM was started"


def test_rollout_and_actor_agree_on_the_log_probability_of_every_token(trained: Trained) -> None:
    """Before the first update and after others. Weights that did not reach vLLM would show: no mean exceeds the most,
    and after one update the policy is on average further from where it began than the most that is allowed here.
    """
    assert len(trained.logged) == STEPS
    assert ON_GPU or trained.logged[1]["actor/reward_kl_penalty"] > TOLERANCE
    for step, logged in enumerate(trained.logged, 1):
        most, mean = logged["training/rollout_gap_max"], logged["training/rollout_gap_mean"]
        print(f"step {step}: log-probabilities apart by at most {most:.2e}, on average {mean:.2e}")
        assert math.isfinite(most)
        assert mean < IN_BF16 if ON_GPU else most < TOLERANCE
