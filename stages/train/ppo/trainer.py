"""verl's trainer with checkpoints that can be trusted, a whole driver state, and a stop at the first loss that is none.

    python -m stages.train.ppo.trainer FILE

FILE is verl's whole configuration. This takes the place of `verl.trainer.main_ppo`, whose loop it runs.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from omegaconf import DictConfig, OmegaConf
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env
from verl.trainer.main_ppo_v0 import BaseTaskRunner
from verl.trainer.ppo.ray_trainer import RayPPOTrainer
from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler, need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import collate_fn
from verl.utils.device import auto_set_device
from verl.utils.metric import Metric

from stages.shared.errors import BudgetError, PipelineError
from stages.shared.files import write_json
from stages.train.ppo.job import Job
from stages.train.ppo.record import read_records
from stages.train.ppo.resume import STEP, best_validated, prune, seal, sealed_steps
from stages.train.ppo.state import read_state, write_state

GAP_MOST, GAP_MEAN = "training/rollout_gap_max", "training/rollout_gap_mean"
LOSSES = ("loss", "grad_norm")
DETERMINISM = ("VERL_FULL_DETERMINISM", "VLLM_BATCH_INVARIANT")
ENOUGH_BYTES = 1 << 20
FULL = ("No space left", "Disk quota", "iostream error", "inline_container", "PytorchStreamWriter")
"""How a full disk sounds; the last three are torch's words for a write that failed."""


class Trainer(RayPPOTrainer):
    """The driver of a run."""

    def _save_checkpoint(self) -> None:
        """Write the checkpoint of this step, seal it, and drop old ones."""
        checkpoints = Path(self.config.trainer.default_local_dir)
        folder = checkpoints / f"{STEP}{self.global_steps}"
        try:
            super()._save_checkpoint()
            write_state(folder, self.async_rollout_manager.state())
            seal(folder)
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(checkpoints).free
            shutil.rmtree(folder, ignore_errors=True)
            raise unsaved(self.global_steps, free, error) from error
        job = Job.load()
        prune(checkpoints, job.keep, best_validated(read_records(job.notes), sealed_steps(checkpoints)))

    def _load_checkpoint(self) -> None:
        """Take up weights, optimizers and random states where the configuration names a checkpoint."""
        super()._load_checkpoint()
        if self.global_steps:
            folder = Path(self.config.trainer.resume_from_path)
            self.async_rollout_manager.restore(read_state(folder))

    def _update_actor(self, batch: Any) -> Any:
        output = super()._update_actor(batch)
        refuse_broken(output.meta_info["metrics"], self.global_steps, batch.non_tensor_batch)
        if not self.config.algorithm.rollout_correction.bypass_mode:
            output.meta_info["metrics"] |= gap(batch.batch)
        return output

    def _update_critic(self, batch: Any) -> Any:
        output = super()._update_critic(batch)
        refuse_broken(output.meta_info["metrics"], self.global_steps, batch.non_tensor_batch)
        return output


def gap(batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """How far the log-probabilities that the rollout sampled by are from the actor's, of the policy's own tokens.

    Nothing where the rollout gave none. Some of it is meant: the rollout's are of the distribution that top_p left.
    """
    if "rollout_log_probs" not in batch:
        return {}
    apart = (batch["rollout_log_probs"] - batch["old_log_probs"]).abs()[batch["response_mask"].bool()]
    return {GAP_MOST: [apart.max().item()], GAP_MEAN: [apart.mean().item()]}


def refuse_broken(metrics: Mapping[str, Any], step: int, batch: Mapping[str, Any]) -> None:
    """Raise PipelineError when a loss or gradient of an update is not finite, naming the step and its batch.

    verl would skip such an update and go on; the checkpoint before stays the newest, as this comes before saving.
    """
    values = {name: _flat(value) for name, value in metrics.items() if name.endswith(LOSSES)}
    broken = {name: found for name, found in values.items() if not all(math.isfinite(value) for value in found)}
    if not broken:
        return
    rows = sorted({int(info["index"]) for info in batch["extra_info"]})
    name, found = next(iter(broken.items()))
    bad = next(place for place, value in enumerate(found) if not math.isfinite(value))
    kept = Job.load().notes / f"broken-step-{step}.json"
    told = {key: [str(value) for value in found] for key, found in values.items()}
    write_json(kept, {"step": step, "rows": rows, "metrics": told})
    raise PipelineError(
        f"step {step}: {name} is {found[bad]} in forward pass {bad + 1} of {len(found)}, on rows {rows[0]} to "
        f"{rows[-1]} of train.parquet (listed in {kept}); the checkpoint before is kept. Lower the learning rate: the "
        "same run would break again"
    )


def _flat(value: Any) -> list[float]:
    values = value.values if isinstance(value, Metric) else value
    return [float(item) for item in (values if isinstance(values, Sequence | np.ndarray) else [values])]


def unsaved(step: int, free: int, error: Exception) -> PipelineError:
    """A failed save in words: BudgetError where the disk is, or was a moment ago, full."""
    said = str(error).strip().splitlines()[-1]
    full = free < ENOUGH_BYTES or any(words in str(error) for words in FULL)
    told = f"the checkpoint of step {step} could not be written ({said}); what was written of it is removed, the one"
    if full:
        return BudgetError(f"no disk space left: {told} before is kept. Free some and run again")
    return PipelineError(f"{told} before is kept")


class Runner(BaseTaskRunner):
    """What verl's `TaskRunner` does, with our trainer, in this process: an actor of its own would import all again.

    So Ray starts no profiler for the driver: where verl's workers run under Nsight Systems (`global_profiler`), this
    process is not in their trace.
    """

    def run(self, config: DictConfig) -> None:
        """Train to the last step."""
        OmegaConf.resolve(config)
        seed_driver(Job.load().seed)
        _, group = self.add_actor_rollout_worker(config)
        self.add_critic_worker(config)
        self.add_reward_model_resource_pool(config)
        validate_config(config, need_reference_policy(config), need_critic(config))
        model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
        rows = {
            train: create_rl_dataset(files, config.data, model.tokenizer, model.processor, is_train=train)
            for train, files in ((True, config.data.train_files), (False, config.data.val_files))
        }
        trainer = Trainer(
            config=config, tokenizer=model.tokenizer, processor=model.processor,
            role_worker_mapping=self.role_worker_mapping, resource_pool_manager=self.init_resource_pool_mgr(config),
            ray_worker_group_cls=group, train_dataset=rows[True], val_dataset=rows[False], collate_fn=collate_fn,
            train_sampler=create_rl_sampler(config.data, rows[True]),
        )  # fmt: skip
        trainer.init_workers()
        trainer.fit()


def seed_driver(seed: int) -> None:
    """Everything that the driver might draw."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def main(path: str) -> None:
    """Run verl on a composed configuration."""
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    auto_set_device(config)
    rollout = config.actor_rollout_ref.rollout
    if rollout.full_determinism:
        os.environ |= dict.fromkeys(DETERMINISM, "1") | {"PYTHONHASHSEED": str(rollout.seed)}
    settings = OmegaConf.merge({"runtime_env": get_ppo_ray_runtime_env(config)}, config.ray_kwargs.ray_init)
    ray.init(**OmegaConf.to_container(settings))
    Runner().run(config)
    if config.ray_kwargs.timeline_json_file:
        ray.timeline(filename=config.ray_kwargs.timeline_json_file)


if __name__ == "__main__":
    main(sys.argv[1])
