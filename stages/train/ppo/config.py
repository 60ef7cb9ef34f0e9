"""Verl's configuration: its own defaults, our parameters in its terms, one overlay, the user's overrides."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.shared.errors import ConfigurationError
from stages.shared.params import Params
from stages.train.ppo.overlays import OPEN, cpu, gpu
from stages.train.ppo.resume import FRESH, STEP, Start

if TYPE_CHECKING:
    from omegaconf import DictConfig

ESTIMATORS = {"gae": "gae", "grpo": "pointsman_grpo", "rloo": "pointsman_rloo"}
MANAGER = "stages.train.ppo.manager.EpisodeManager"


@dataclass(frozen=True)
class Paths:
    """Where a run reads and writes."""

    policy: Path
    train: Path
    validation: Path
    checkpoints: Path
    ray: Path | None = None
    """Ray's own folder; a short path, since sockets lie in it."""
    start: Start = FRESH
    rows: int = 0
    """Episodes that are in flight at once at least: validation plays all of its questions."""


def compose(params: Params, paths: Paths) -> DictConfig:
    """The whole configuration of a run.

    Raises ConfigurationError on an override that verl does not know or a CPU cannot follow, and on batch sizes that do
    not divide.
    """
    from omegaconf import OmegaConf

    check_batches(params)
    config = _defaults()
    overlay = cpu(params, paths.ray, paths.rows) if params.train.backend == "cpu" else gpu(params)
    for source in (base(params, paths), overlay):
        for key, value in source.items():
            OmegaConf.update(config, key, value, force_add=_open(key))
    for key, value in params.train.overrides.items():
        _check_key(config, key)
        OmegaConf.update(config, key, value, force_add=_open(key))
    check_adapters(params, config)
    return config


def base(params: Params, paths: Paths) -> Mapping[str, Any]:
    """What our parameters mean to verl, whatever it runs on."""
    ppo, episode = params.train.ppo, params.episode
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    return {
        "data.train_files": str(paths.train),
        "data.val_files": str(paths.validation),
        "data.train_batch_size": ppo.questions,
        "data.max_prompt_length": episode.prompt_tokens,
        "data.max_response_length": episode.response_tokens,
        "data.shuffle": False,
        "data.seed": params.train.seed,
        "data.dataloader_num_workers": 0,
        "actor_rollout_ref.model.path": str(paths.policy),
        f"{actor}.optim.lr": ppo.learning_rate,
        f"{actor}.ppo_mini_batch_size": ppo.mini_batch,
        f"{actor}.ppo_micro_batch_size_per_gpu": ppo.micro_batch,
        f"{actor}.clip_ratio": ppo.clip,
        f"{actor}.clip_ratio_low": ppo.clip,
        f"{actor}.clip_ratio_high": ppo.clip,
        f"{actor}.entropy_coeff": ppo.entropy,
        f"{actor}.data_loader_seed": params.train.seed,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": ppo.micro_batch,
        f"{rollout}.n": ppo.episodes,
        f"{rollout}.temperature": ppo.temperature,
        f"{rollout}.top_p": ppo.top_p,
        f"{rollout}.seed": params.train.seed,
        f"{rollout}.tensor_model_parallel_size": 1,
        f"{rollout}.log_prob_micro_batch_size_per_gpu": ppo.micro_batch,
        f"{rollout}.multi_turn.enable": True,
        f"{rollout}.agent.agent_loop_manager_class": MANAGER,
        "critic.model.path": str(paths.policy),
        "critic.optim.lr": ppo.critic_learning_rate,
        "critic.ppo_micro_batch_size_per_gpu": ppo.micro_batch,
        "critic.cliprange_value": ppo.value_clip,
        "algorithm.adv_estimator": ESTIMATORS[ppo.advantage],
        "algorithm.gamma": 1.0,
        "algorithm.lam": 1.0,
        "algorithm.use_kl_in_reward": ppo.kl > 0,
        "algorithm.kl_penalty": "kl",
        "algorithm.kl_ctrl.kl_coef": ppo.kl,
        "reward.num_workers": 0,
        **_course(params, paths),
    }


def _course(params: Params, paths: Paths) -> Mapping[str, Any]:
    """Where a run begins and ends, and what it leaves."""
    ppo = params.train.ppo
    return {
        "trainer.use_v1": False,
        "trainer.project_name": "pointsman",
        "trainer.experiment_name": params.profile_name,
        "trainer.logger": ["file"],
        "trainer.nnodes": params.train.nodes,
        "trainer.n_gpus_per_node": params.train.gpus_per_node,
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": ppo.steps,
        "trainer.save_freq": ppo.save_every,
        "trainer.test_freq": ppo.validate_every,
        "trainer.val_before_train": paths.start.validate,
        "trainer.val_only": paths.start.step >= ppo.steps,
        "trainer.resume_mode": "resume_path" if paths.start.step else "disable",
        "trainer.resume_from_path": str(paths.checkpoints / f"{STEP}{paths.start.step}"),
        "trainer.default_local_dir": str(paths.checkpoints),
    }


def check_batches(params: Params) -> None:
    """Raise ConfigurationError unless a step divides into updates, and an update into forward passes."""
    ppo = params.train.ppo
    if ppo.questions % ppo.mini_batch:
        raise ConfigurationError(
            f"train.ppo.questions ({ppo.questions}) is no multiple of train.ppo.mini_batch ({ppo.mini_batch}), "
            "the questions of one update; change one of them"
        )
    processes = params.train.nodes * params.train.gpus_per_node
    update = ppo.mini_batch * ppo.episodes
    if update % (ppo.micro_batch * processes):
        raise ConfigurationError(
            f"an update of train.ppo.mini_batch x episodes = {update} episodes does not divide into forward passes of "
            f"train.ppo.micro_batch = {ppo.micro_batch} on {processes} processes; change one of them"
        )
    if ppo.advantage != "gae" and ppo.episodes < 2:
        raise ConfigurationError(
            f"train.ppo.advantage {ppo.advantage} compares episodes of one question; set train.ppo.episodes above 1"
        )


def check_adapters(params: Params, config: DictConfig) -> None:
    """Raise ConfigurationError for LoRA where nothing trains adapters."""
    adapted = [role for role in ("actor_rollout_ref", "critic") if config[role].model.lora_rank]
    if adapted and params.train.backend == "cpu":
        raise ConfigurationError(
            f"train.overrides: {adapted[0]}.model.lora_rank adapts on GPUs only, and train.backend is cpu; leave it out"
        )


def _defaults() -> DictConfig:
    """verl's `ppo_trainer`, to be changed."""
    return copy.deepcopy(_read_defaults())


@functools.cache
def _read_defaults() -> DictConfig:
    """Without importing verl. To compose it takes half a second."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("verl is not installed; run `make setup`")
    folder = Path(spec.submodule_search_locations[0]) / "trainer" / "config"
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        return hydra_compose(config_name="ppo_trainer")


def _open(key: str) -> bool:
    """Whether verl reads the key although its defaults do not list it."""
    return any(re.fullmatch(pattern, key) for pattern in OPEN)


def _check_key(config: DictConfig, key: str) -> None:
    """Raise ConfigurationError for a dotted path that verl's configuration does not have."""
    from omegaconf import DictConfig, OmegaConf

    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if _open(key) or (isinstance(node, DictConfig) and last in node):
        return
    known = [str(name) for name in node] if isinstance(node, DictConfig) else [str(name) for name in config]
    close = difflib.get_close_matches(last if isinstance(node, DictConfig) else key.split(".")[0], known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see verl's ppo_trainer.yaml"
    raise ConfigurationError(f"train.overrides: verl has no setting {key}; {hint}")
