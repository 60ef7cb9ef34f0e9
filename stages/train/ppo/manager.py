"""Where a batch of episodes is scored: one place, in batch order, however many workers played them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopManager

import stages.train.ppo.advantage  # noqa: F401  (registers our estimators where advantages are computed)
from stages.shared.episode.normaliser import CostNormaliser
from stages.shared.episode.reward import Reward, score
from stages.shared.episode.types import Call, Episode
from stages.shared.errors import TransientError
from stages.shared.params import RewardParams
from stages.train.ppo.agent_loop import EPISODE, EpisodeWorker
from stages.train.ppo.job import Job
from stages.train.ppo.record import SAMPLES, Phase, StepRecord, append_record

SAMPLED = 4
"""Training episodes a step kept as text."""


class EpisodeManager(AgentLoopManager):
    """Has the episodes of a batch played, then rewards them.

    An episode that the infrastructure failed is masked out whole: its tokens are in no loss, no advantage statistic and
    no group baseline (see `advantage`), so that a failed call neither pays nor costs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.agent_loop_workers_class = ray.remote(EpisodeWorker)
        super().__init__(*args, **kwargs)
        self._job = Job.load()
        torch.set_num_threads(self._job.threads)
        self._normalisers = normalisers(self._job.reward)
        self._last = time.monotonic()

    def generate_sequences(self, prompts: Any) -> Any:
        """Play and score a batch; see `AgentLoopManager`."""
        began = time.monotonic()
        output = super().generate_sequences(prompts)
        played = time.monotonic() - began
        episodes: list[Episode] = list(output.non_tensor_batch.pop(EPISODE))
        answers = [list(row["ground_truth"]["target"]) for row in prompts.non_tensor_batch["reward_model"]]
        phase: Phase = "validation" if prompts.meta_info.get("validate") else "train"
        step = int(prompts.meta_info["global_steps"])
        normaliser = self._normalisers[phase]
        rewards = rewarded(episodes, answers, self._job, normaliser, phase)
        if phase == "train":
            refuse_dead_pool(rewards, step)
            questions = [str(question) for question in prompts.non_tensor_batch["question"]]
            keep_samples(self._job.notes / SAMPLES, step, episodes, rewards, questions, answers)
        now = time.monotonic()
        seconds = now - self._last, played
        append_record(self._job.notes, StepRecord.of(step, phase, episodes, rewards, normaliser, seconds))
        self._last = now
        return fill_in(output, rewards)

    def state(self) -> dict[str, list[float]]:
        """The cost normaliser of each split, for a checkpoint."""
        return {phase: normaliser.state() for phase, normaliser in self._normalisers.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Take up what `state` gave."""
        for phase, normaliser in self._normalisers.items():
            normaliser.restore(state[phase])


def normalisers(params: RewardParams) -> dict[Phase, CostNormaliser]:
    """One a split; see `rewarded`."""
    fixed = params.normaliser == "fixed"
    return {"train": CostNormaliser(params.window, fixed=fixed), "validation": CostNormaliser(params.window)}


def rewarded(
    episodes: Sequence[Episode],
    answers: Sequence[Sequence[str]],
    job: Job,
    normaliser: CostNormaliser,
    phase: Phase,
) -> list[Reward]:
    """Score a batch. Training feeds its normaliser first; validation's knows its first batch only.

    So the rewards of two validations compare: the questions are the same, and so is what their costs are held against.
    """
    if phase == "train" or normaliser.empty:
        for episode in episodes:
            if episode.ending != "infrastructure":
                normaliser.observe(episode.cost)
    pairs = zip(episodes, answers, strict=True)
    return [score(episode, golds, job.reward, normaliser) for episode, golds in pairs]


def refuse_dead_pool(rewards: Sequence[Reward], step: int) -> None:
    """Raise TransientError when no episode of a step could be scored: there is nothing to learn from."""
    if rewards and all(reward.total is None for reward in rewards):
        raise TransientError(
            f"step {step}: every episode met a failing candidate; see that the pool answers, then go on"
        )


def fill_in(output: Any, rewards: Sequence[Reward]) -> Any:
    """Put rewards into verl's batch: on the last response token, 0 and no mask where the infrastructure failed."""
    batch = output.batch
    width = batch["prompts"].shape[1]
    last = batch["attention_mask"][:, width:].sum(dim=1) - 1
    scores = torch.zeros_like(batch["response_mask"], dtype=torch.float32)
    scores[torch.arange(len(rewards)), last] = torch.tensor([reward.total or 0.0 for reward in rewards])
    batch["rm_scores"] = scores
    failed = torch.tensor([reward.total is None for reward in rewards])
    batch["response_mask"][failed] = 0
    keys = ("em", "f1", "format", "cost")
    for key in keys:
        output.non_tensor_batch[key] = np.array([getattr(reward, key) for reward in rewards], dtype=np.float64)
    output.meta_info["reward_extra_keys"] = list(keys)
    return output


def keep_samples(
    path: Path,
    step: int,
    episodes: Sequence[Episode],
    rewards: Sequence[Reward],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
) -> None:
    """Append a few episodes of a step as text, spread over the batch."""
    with path.open("a", encoding="utf-8") as file:
        for index in range(0, len(episodes), max(1, -(-len(episodes) // SAMPLED))):
            episode = episodes[index]
            entry = {
                "step": step,
                "question": questions[index],
                "answers": list(answers[index]),
                "turns": [[turn.text, turn.observation] for turn in episode.turns],
                "answer": episode.answer,
                "faults": episode.faults,
                "ending": episode.ending,
                "calls": [_call(call) for call in episode.calls],
                "reward": asdict(rewards[index]),
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _call(call: Call) -> dict[str, Any]:
    said = {"shown": call.shown, "name": call.name, "query": call.query, "reply": call.reply.text}
    return {**said, "outcome": call.reply.outcome.value, "cost": call.cost}
