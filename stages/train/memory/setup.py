"""What decides over memory, beside the policy's shape: read from verl's own configuration, overrides included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.train.ppo.config import Paths, compose

if TYPE_CHECKING:
    from stages.shared.params import Params

BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}


@dataclass(frozen=True)
class Model:
    """How one of the trained models is held."""

    checkpointing: bool
    offload_parameters: bool
    offload_optimizer: bool
    lora_rank: int = 0


@dataclass(frozen=True)
class Setup:
    """How a run is laid out."""

    world: int
    """Processes that the states are sharded over."""
    on_gpu: bool
    actor: Model
    critic: Model | None
    """None where advantages come from a group."""
    reference: bool
    """Whether a reference model of its own is held."""
    prompt: int
    response: int
    """Tokens of an episode at most."""
    micro_batch: int
    """Episodes a forward pass."""
    shared_prompt: int
    """Episodes of a forward pass that share one computed prompt."""
    compute: int
    """Bytes of a number in forward and backward."""
    master: int
    """Bytes of a number in weights that are trained, and in their gradients and moments."""
    distributions: int
    """Tensors of a number a token and word of the vocabulary that an update holds at once; see `_distributions`."""
    rollout: int
    """Bytes of a number in the rollout's weights and cache."""
    utilization: float
    """Share of a GPU that vLLM takes."""
    sleeps: bool
    """Whether the rollout gives its memory back while training."""
    rows: int
    """Episodes in flight at most."""

    @property
    def tokens(self) -> int:
        """Of a forward pass, all of whose episodes are as long as they may be."""
        return -(-self.micro_batch // self.shared_prompt) * self.prompt + self.micro_batch * self.response

    @staticmethod
    def of(params: Params) -> Setup:
        """As `compose` would have verl run these parameters. Raises its ConfigurationErrors."""
        from omegaconf import OmegaConf

        nowhere = Path("unused")
        whole = compose(params, Paths(nowhere, nowhere, nowhere, nowhere))
        trained: Any = OmegaConf.to_container(whole.actor_rollout_ref, resolve=True)
        valued: Any = OmegaConf.to_container(whole.critic, resolve=True)
        on_gpu, ppo, episode = params.train.backend == "gpu", params.train.ppo, params.episode
        engine, rollout = trained["actor"]["fsdp_config"], trained["rollout"]
        precision = (engine.get("mixed_precision") or {}).get("param_dtype", "bf16")
        lora = int(trained["model"]["lora_rank"] or 0)
        return Setup(
            world=params.train.nodes * params.train.gpus_per_node, on_gpu=on_gpu,
            actor=_model(trained["model"], engine, lora),
            critic=_model(valued["model"], valued["fsdp"], 0) if ppo.advantage == "gae" else None,
            reference=ppo.kl > 0 and lora == 0,
            prompt=episode.prompt_tokens, response=episode.response_tokens, micro_batch=ppo.micro_batch,
            shared_prompt=1 if on_gpu else ppo.episodes, compute=BYTES[precision] if on_gpu else 4,
            master=BYTES[engine["model_dtype"]], distributions=_distributions(trained["actor"], on_gpu),
            rollout=BYTES[rollout["dtype"]], utilization=float(rollout["gpu_memory_utilization"]),
            sleeps=on_gpu and bool(rollout["free_cache_engine"]), rows=ppo.questions * ppo.episodes,
        )  # fmt: skip


def _model(model: dict[str, Any], engine: dict[str, Any], lora: int) -> Model:
    offloaded = bool(engine["offload_policy"])
    return Model(
        checkpointing=bool(model["enable_gradient_checkpointing"]),
        offload_parameters=offloaded or bool(engine["param_offload"]),
        offload_optimizer=offloaded or bool(engine["optimizer_offload"]),
        lora_rank=lora,
    )


def _distributions(actor: dict[str, Any], on_gpu: bool) -> int:
    """Read off the code, in verl 0.9.1 `FSDPEngineWithLMHead.prepare_model_outputs` and here `CpuEngine._output`.

    Logits and their gradient on a GPU, where the log-probabilities' backward pass writes over the logits; one more for
    an entropy that is compiled or checkpointed, three more where it is neither (softmax, and two gradients). On the CPU
    the log-softmax and two gradients; for the entropy its exponential and that one's gradient.
    """
    entropy, engine = float(actor["entropy_coeff"]) > 0, actor["fsdp_config"]
    if not on_gpu:
        return 5 if entropy else 3
    spared = engine["use_torch_compile"] or engine["entropy_checkpointing"]
    return 2 + (0 if not entropy else 1 if spared else 3)
