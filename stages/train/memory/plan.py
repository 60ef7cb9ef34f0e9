"""What PPO needs of one device's memory, part by part, before anything of it is loaded.

States after Rajbhandari et al. 2020, "ZeRO", section 3.1, with masters, gradients and both moments of Adam in one
precision, as verl holds them, and sharded as in stage 3; activations after Korthikanti et al. 2022, "Reducing
Activation Recomputation in Large Transformer Models", section 4, with the tensors of a gated block and of attention
that keeps no scores. Every episode is taken to be as long as it may be: an upper estimate. Sums of states are exact;
activations on a GPU have never been compared with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from stages.train.memory.setup import Model, Setup
from stages.train.memory.shape import Shape

Phase = Literal["rollout", "actor", "critic"]
PHASES: tuple[Phase, ...] = ("rollout", "actor", "critic")
MOMENTS = 2
CONTEXT_BYTES = 7 << 29
"""Taken by CUDA, NCCL and fragments in the trainer's process and in vLLM's. On an H100 both held 3.3 GiB beside a
policy of a million parameters while the cache slept; fragments grow with a policy."""
MASK_BYTES = 3
"""Of a pair of tokens in one forward pass, by torch's attention: who may see whom, once as bool and once as bf16. On an
H100 10,000 tokens took .28 GiB more than by an attention that needs no mask."""
GIB = 1 << 30


@dataclass(frozen=True)
class Part:
    """Memory for one purpose, in the phases of a step that hold it."""

    name: str
    bytes: int
    phases: tuple[Phase, ...] = PHASES


@dataclass(frozen=True)
class Plan:
    """All parts on the fullest device."""

    parts: tuple[Part, ...]
    least_rollout: int
    """Weights of the rollout and the cache of one episode."""
    checkpoint: int
    """Bytes of one checkpoint on disk, of all processes together."""

    def peak(self, phase: Phase) -> int:
        """Bytes that one phase of a step holds."""
        return sum(part.bytes for part in self.parts if phase in part.phases)

    @property
    def highest(self) -> int:
        """Bytes of the fullest phase."""
        return max(self.peak(phase) for phase in PHASES)

    def lines(self) -> list[str]:
        """For a person: a part a line, then the phases."""
        parts = [f"{part.name:<22}{size(part.bytes):>10}  {_when(part)}" for part in self.parts if part.bytes]
        peaks = ", ".join(f"{phase} {size(self.peak(phase))}" for phase in PHASES if self.peak(phase))
        return [*parts, f"{'at most, by phase':<22}{peaks}"]


def plan(shape: Shape, setup: Setup, device: int | None = None) -> Plan:
    """What a device holds; `device` is its size in bytes, of which vLLM takes its share, where one is known."""
    return Plan(tuple(_parts(shape, setup, device)), _least_rollout(shape, setup), _checkpoint(shape, setup))


def largest_micro_batch(shape: Shape, setup: Setup, device: int, update: int) -> int | None:
    """Most episodes a forward pass with which the plan fits, of those that divide an update; None where none does."""
    for episodes in range(setup.micro_batch, 0, -1):
        if update % (episodes * setup.world) == 0:
            smaller = replace(setup, micro_batch=episodes)
            if plan(shape, smaller, device).highest <= device:
                return episodes
    return None


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / GIB:.2f} GiB" if count >= GIB >> 3 else f"{count / (1 << 20):.1f} MiB"


def _parts(shape: Shape, setup: Setup, device: int | None) -> Iterator[Part]:
    yield from _states("actor", shape.parameters, _trained(shape, setup.actor), setup.actor, setup)
    if setup.critic is not None:
        yield from _states("critic", shape.critic_parameters, shape.critic_parameters, setup.critic, setup)
    if setup.reference and not setup.on_gpu:
        yield Part("reference", shape.parameters * setup.master)
    yield Part("actor activations", activations(shape, setup, setup.actor), ("actor",))
    yield Part("actor logits", _logits(shape, setup), ("actor",))
    if setup.critic is not None:
        yield Part("critic activations", activations(shape, setup, setup.critic), ("critic",))
    if setup.on_gpu:
        yield Part("gathered layers", gathered(shape, setup), ("actor", *_if_critic(setup)))
        yield Part("attention mask", MASK_BYTES * setup.tokens**2, ("actor", *_if_critic(setup)))
        yield Part("CUDA and NCCL", CONTEXT_BYTES)
    yield from _rollout(shape, setup, device)


def _if_critic(setup: Setup) -> tuple[Phase, ...]:
    return () if setup.critic is None else ("critic",)


def _trained(shape: Shape, model: Model) -> int:
    return shape.adapted * model.lora_rank if model.lora_rank else shape.parameters


def _states(role: Literal["actor", "critic"], held: int, trained: int, model: Model, setup: Setup) -> Iterator[Part]:
    """Weights, gradients and moments of a model, over all processes; what is offloaded is there in its own phase."""
    adapters = trained if model.lora_rank else 0
    own: tuple[Phase, ...] = (role,)
    shard = setup.master / setup.world
    weights = PHASES if not model.offload_parameters else own
    yield Part(f"{role} weights", round((held + adapters) * shard), weights)
    yield Part(f"{role} gradients", round(trained * shard), own)
    yield Part(f"{role} optimizer", round(MOMENTS * trained * shard), PHASES if not model.offload_optimizer else own)


def activations(shape: Shape, setup: Setup, model: Model) -> int:
    """What a forward pass keeps for its backward pass; with checkpointing each layer's input, and one layer whole."""
    layer = setup.tokens * layer_bytes(shape, setup.compute) + (0 if setup.on_gpu else _copies(shape, setup))
    last_norm = setup.tokens * _norm_bytes(shape, setup.compute)
    if not model.checkpointing:
        return shape.layers * layer + last_norm
    return shape.layers * setup.tokens * shape.width * setup.compute + layer + last_norm


def layer_bytes(shape: Shape, number: int) -> int:
    """Kept of one token in one layer, `number` bytes a number.

    What both norms keep; queries, keys, values and the output of attention; of the gated block its two inputs, the
    activated one and their product.
    """
    attention = number * shape.head * (2 * shape.heads + 2 * shape.kv_heads)
    return 2 * _norm_bytes(shape, number) + attention + 4 * number * shape.inner


def _norm_bytes(shape: Shape, number: int) -> int:
    """A norm keeps its input in fp32, the normalised vector, and the scaled one for the map that follows."""
    return shape.width * (4 + 2 * number)


def _copies(shape: Shape, setup: Setup) -> int:
    """Of one layer in `engine.Tree.attend`: a prompt's keys and values for each episode, and the gathered output."""
    return setup.compute * shape.heads * shape.head * (2 * setup.micro_batch * setup.prompt + setup.tokens)


def _logits(shape: Shape, setup: Setup) -> int:
    """On the CPU for tokens that the policy may have written, on a GPU for every token of a forward pass."""
    tokens = setup.tokens if setup.on_gpu else setup.micro_batch * setup.response
    return setup.distributions * tokens * shape.vocabulary * setup.compute


def gathered(shape: Shape, setup: Setup) -> int:
    """Whole weights of the root and of two layers (one is fetched ahead), and their gradients until reduced."""
    return 2 * (shape.root_parameters + 2 * shape.layer_parameters) * setup.compute


def _least_rollout(shape: Shape, setup: Setup) -> int:
    return shape.parameters * setup.rollout + (setup.prompt + setup.response) * shape.kv_bytes(setup.rollout)


def _rollout(shape: Shape, setup: Setup, device: int | None) -> Iterator[Part]:
    """vLLM takes its share of the device whatever it needs; on the CPU there is a cache for every episode in flight."""
    phases: tuple[Phase, ...] = ("rollout",) if setup.sleeps else PHASES
    weights, cache = shape.parameters * setup.rollout, shape.kv_bytes(setup.rollout)
    yield Part("rollout weights", weights, phases)
    if not setup.on_gpu:
        yield Part("KV cache", setup.rows * (setup.prompt + setup.response) * cache, phases)
        return
    room = cache * (setup.prompt + setup.response) if device is None else round(setup.utilization * device) - weights
    yield Part("KV cache", max(room, 0), phases)


def _checkpoint(shape: Shape, setup: Setup) -> int:
    """Weights and moments of whatever is trained."""
    adapters = shape.adapted * setup.actor.lora_rank
    actor = shape.parameters + adapters + MOMENTS * _trained(shape, setup.actor)
    critic = 0 if setup.critic is None else (1 + MOMENTS) * shape.critic_parameters
    return (actor + critic) * setup.master


def _when(part: Part) -> str:
    return "always" if part.phases == PHASES else "while " + " and ".join(_DOING[phase] for phase in part.phases)


_DOING = {"rollout": "playing", "actor": "the actor learns", "critic": "the critic learns"}
