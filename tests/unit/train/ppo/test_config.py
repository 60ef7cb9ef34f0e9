"""Every profile composes into a configuration that verl accepts, and a wrong one is refused with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from stages.shared.errors import ConfigurationError
from stages.shared.params import Params
from stages.train.ppo.config import Paths, compose
from stages.train.ppo.run import _command, _settings

PROFILES = sorted(path.stem for path in (Path(__file__).resolve().parents[4] / "infra" / "profiles").glob("*.yaml"))
PATHS = Paths(Path("/policy"), Path("/train.parquet"), Path("/validation.parquet"), Path("/checkpoints"), Path("/ray"))


def composed(params: Params) -> DictConfig:
    return compose(params, PATHS)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_becomes_dataclasses_of_verl(name: str, profile: Callable[..., Params]) -> None:
    """As far as that goes without the model's files: actor, critic, rollout and algorithm check themselves."""
    from verl.utils.config import omega_conf_to_dataclass

    params = profile(name)
    config = composed(params)
    OmegaConf.to_container(config, resolve=True)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    omega_conf_to_dataclass(config.algorithm)
    assert actor.ppo_mini_batch_size == params.train.ppo.mini_batch
    assert rollout.n == params.train.ppo.episodes
    assert rollout.name == ("batched_cpu" if params.train.backend == "cpu" else "vllm")


@pytest.mark.parametrize("name", [name for name in PROFILES if name.startswith("paper")])
def test_the_gpu_overlay_is_the_papers_setup(name: str, profile: Callable[..., Params]) -> None:
    """Composed only: one GPU is too small for these, and FlashAttention's package is not here."""
    config = composed(profile(name))
    assert config.trainer.device == "cuda"
    assert config.actor_rollout_ref.actor.strategy == config.critic.strategy == "fsdp2"
    assert config.algorithm.adv_estimator == "gae"
    assert config.algorithm.use_kl_in_reward
    assert config.algorithm.kl_ctrl.kl_coef == pytest.approx(1e-3)
    assert config.actor_rollout_ref.actor.clip_ratio == pytest.approx(0.2)
    assert config.critic.cliprange_value == pytest.approx(0.5)
    actor, critic, rollout = config.actor_rollout_ref.actor, config.critic, config.actor_rollout_ref.rollout
    assert (actor.optim.lr, critic.optim.lr) == (1e-6, 1e-5)
    assert actor.optim.lr_scheduler_type == critic.optim.lr_scheduler_type == "constant"
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, actor.ppo_micro_batch_size_per_gpu) == (64, 32, 8)
    assert (critic.ppo_mini_batch_size, critic.ppo_micro_batch_size_per_gpu, critic.ppo_epochs) == (32, 8, 1)
    assert (actor.ppo_epochs, actor.entropy_coeff, actor.optim.clip_grad, critic.optim.clip_grad) == (1, 1e-3, 1.0, 1.0)
    assert (config.algorithm.gamma, config.algorithm.lam, config.algorithm.kl_penalty) == (1.0, 1.0, "kl")
    assert (rollout.temperature, rollout.top_p, rollout.val_kwargs.do_sample, rollout.n) == (1.0, 0.95, False, 1)
    assert config.data.max_prompt_length + config.data.max_response_length == rollout.max_model_len == 4096
    assert (config.trainer.total_training_steps, config.trainer.n_gpus_per_node) == (224, 4)
    attention = {model.override_config.attn_implementation for model in (config.actor_rollout_ref.model, critic.model)}
    assert attention == {"sdpa"}
    assert config.actor_rollout_ref.model.enable_gradient_checkpointing
    assert critic.model.enable_gradient_checkpointing
    assert not config.algorithm.rollout_correction.bypass_mode
    assert "ray_init" not in config.ray_kwargs or "num_gpus" not in config.ray_kwargs.ray_init


def test_without_kl_there_is_no_reference_model(profile: Callable[..., Params]) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy

    without = composed(profile("smoke", kl=0.0, advantage="grpo", episodes=4))
    assert not need_reference_policy(without)
    assert not need_critic(without)
    assert need_reference_policy(composed(profile("smoke", kl=0.1)))
    assert need_critic(composed(profile("smoke", advantage="gae")))


@pytest.mark.parametrize("advantage", ["grpo", "rloo"])
def test_a_group_takes_the_critics_place_by_one_parameter(advantage: str, profile: Callable[..., Params]) -> None:
    from verl.trainer.ppo.utils import need_critic

    config = composed(profile("paper-qwen", advantage=advantage, episodes=4))
    assert config.algorithm.adv_estimator == f"pointsman_{advantage}"
    assert not need_critic(config)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_cluster_that_is_there_is_joined_and_told_nothing_of_its_size(
    backend: str, profile: Callable[..., Params]
) -> None:
    params = profile("smoke", micro_batch=4)
    train = params.train.model_copy(update={"backend": backend, "ray_address": "10.0.0.1:6379", "nodes": 2})
    config = composed(params.model_copy(update={"train": train}))
    told = {name: value for name, value in config.ray_kwargs.ray_init.items() if value is not None}
    assert told == {"address": "10.0.0.1:6379", "runtime_env": {"py_executable": None}}
    assert config.trainer.nnodes == 2


def test_workers_of_a_cluster_are_told_what_the_trainer_is(params: Params, tmp_path: Path) -> None:
    train = params.train.model_copy(update={"ray_address": "auto"})
    settings = _settings(params, tmp_path / "job.json", tmp_path)
    _command(composed(params.model_copy(update={"train": train})), tmp_path, settings)
    told = OmegaConf.load(tmp_path / "verl.yaml").ray_kwargs.ray_init.runtime_env.env_vars
    assert told == settings
    assert told["POINTSMAN_TRAINING_JOB"] == str(tmp_path / "job.json")
    assert told["VERL_USE_EXTERNAL_MODULES"] == "stages.train.ppo.plugin"


def test_adapters_are_refused_where_nothing_trains_them(profile: Callable[..., Params]) -> None:
    def adapted(name: str) -> Params:
        params: Params = profile(name)
        overrides = {"actor_rollout_ref.model.lora_rank": 16}
        return params.model_copy(update={"train": params.train.model_copy(update={"overrides": overrides})})

    assert composed(adapted("paper-qwen")).actor_rollout_ref.model.lora_rank == 16
    with pytest.raises(ConfigurationError, match="on GPUs only"):
        composed(adapted("smoke"))


def test_overrides_come_last(params: Params) -> None:
    train = params.train.model_copy(update={"overrides": {"trainer.save_freq": 77}})
    assert composed(params.model_copy(update={"train": train})).trainer.save_freq == 77


@pytest.mark.parametrize(
    "key,hint",
    [
        ("trainer.save_frequency", "save_freq"),
        ("tranier.save_freq", "trainer"),
        ("data.nothing_like_it", "ppo_trainer.yaml"),
    ],
)
def test_an_override_that_verl_does_not_know_is_refused(params: Params, key: str, hint: str) -> None:
    train = params.train.model_copy(update={"overrides": {key: 1}})
    with pytest.raises(ConfigurationError, match=hint):
        composed(params.model_copy(update={"train": train}))


@pytest.mark.parametrize(
    "ppo,message",
    [
        ({"questions": 10, "mini_batch": 4}, "no multiple of train.ppo.mini_batch"),
        ({"questions": 8, "mini_batch": 8, "micro_batch": 3}, "does not divide into forward passes"),
        ({"advantage": "grpo", "episodes": 1}, "train.ppo.episodes above 1"),
    ],
)
def test_batches_that_do_not_divide_are_refused(
    ppo: dict[str, Any], message: str, profile: Callable[..., Params]
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed(profile("smoke", **ppo))
