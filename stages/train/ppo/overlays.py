"""What differs between a CPU and GPUs, in verl's terms; nothing else differs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.train.ppo.balancer import SETTINGS

if TYPE_CHECKING:
    from stages.shared.params import Params

OPEN = (
    r"ray_kwargs\.ray_init\..+",
    r".+\.override_config\..+",
    r".+\.mixed_precision(\..+)?",
    r"actor_rollout_ref\.rollout\.agent\.agent_loop_manager_class",
    r".+\.engine_kwargs\..+",
    r"critic\.enable",
)
"""Keys that verl reads although its defaults do not list them."""
RAY_CPUS = 16
"""What Ray is told; its actors here wait more than they compute."""
OBJECT_STORE_BYTES = 200_000_000
ROLLOUT = "batched_cpu"


def cpu(params: Params, ray: Path | None, rows: int) -> Mapping[str, Any]:
    """Bare fp32 modules, the batched rollout, as a rule one process that trains; rollout log-probabilities as they are.

    These are exact to rounding (same weights, same precision), so that computing them again would only cost time. There
    are rows for every episode in flight: one that lost its own would be computed another way, with other last bits.
    """
    overlay: dict[str, Any] = {
        "trainer.device": "cpu",
        "trainer.balance_batch": False,
        "actor_rollout_ref.rollout.name": ROLLOUT,
        "actor_rollout_ref.rollout.dtype": "float32",
        "actor_rollout_ref.rollout.max_num_seqs": max(params.train.ppo.questions * params.train.ppo.episodes, rows),
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        "algorithm.rollout_correction.bypass_mode": True,
        **(_own_ray(ray) if params.train.ray_address is None else _cluster(params.train.ray_address)),
    }
    if params.train.nodes * params.train.gpus_per_node == 1:
        overlay["actor_rollout_ref.rollout.router_config_path"] = str(SETTINGS)
    for model, engine in (("actor_rollout_ref", "actor.fsdp_config"), ("critic", "fsdp")):
        overlay[f"{model}.model.use_remove_padding"] = False
        overlay[f"{model}.model.enable_gradient_checkpointing"] = False
        overlay[f"{model}.model.override_config.attn_implementation"] = "sdpa"
        overlay[f"{model}.{engine}.use_torch_compile"] = False
        overlay[f"{model}.{engine}.strategy"] = "fsdp2"
    for role in ("actor_rollout_ref.actor", "critic"):
        overlay[f"{role}.strategy"] = "fsdp2"
    overlay["actor_rollout_ref.actor.use_torch_compile"] = False
    overlay["actor_rollout_ref.ref.fsdp_config.use_torch_compile"] = False
    overlay["actor_rollout_ref.ref.fsdp_config.strategy"] = "fsdp2"
    return overlay


def _own_ray(folder: Path | None) -> Mapping[str, Any]:
    """A Ray of the run's own, whose sockets lie in `folder`."""
    settings = {
        "num_cpus": RAY_CPUS, "num_gpus": 1, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES,
        **({} if folder is None else {"_temp_dir": str(folder)}),
    }  # fmt: skip
    return {f"ray_kwargs.ray_init.{name}": value for name, value in settings.items()}


def _cluster(address: str) -> Mapping[str, Any]:
    """A Ray that is there."""
    return {"ray_kwargs.ray_init.address": address}


def gpu(params: Params) -> Mapping[str, Any]:
    """vLLM rollout, FSDP2 in bf16 over fp32 masters."""
    overlay: dict[str, Any] = {
        "trainer.device": "cuda",
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.dtype": "bfloat16",
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.5,
        "actor_rollout_ref.rollout.max_model_len": params.episode.prompt_tokens + params.episode.response_tokens,
        "actor_rollout_ref.rollout.skip_tokenizer_init": False,
        "actor_rollout_ref.rollout.agent.num_workers": 4 * params.train.nodes,
    }
    if params.train.ray_address is not None:
        overlay |= _cluster(params.train.ray_address)
    for model, engine in (("actor_rollout_ref", "actor.fsdp_config"), ("critic", "fsdp")):
        overlay[f"{model}.model.use_remove_padding"] = True
        overlay[f"{model}.model.override_config.attn_implementation"] = _attention()
        overlay[f"{model}.model.enable_gradient_checkpointing"] = True
        overlay[f"{model}.{engine}.strategy"] = "fsdp2"
    overlay["actor_rollout_ref.actor.strategy"] = "fsdp2"
    overlay["actor_rollout_ref.ref.fsdp_config.strategy"] = "fsdp2"
    overlay["critic.strategy"] = "fsdp2"
    return overlay


def _attention() -> str:
    """FlashAttention's own package, verl's default, has no wheel on PyPI; without it torch's attention serves.

    Both keep packed episodes apart: transformers sees from the positions where one begins.
    """
    return "flash_attention_2" if find_spec("flash_attn") else "sdpa"
