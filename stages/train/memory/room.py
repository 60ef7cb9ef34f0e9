"""The device that training would run on, and whether a plan fits into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from stages.shared.errors import ConfigurationError
from stages.shared.progress import Progress, say
from stages.train.memory.plan import Plan, largest_micro_batch, plan, size
from stages.train.memory.policy import policy_config
from stages.train.memory.setup import Setup
from stages.train.memory.shape import Shape

if TYPE_CHECKING:
    from stages.shared.params import Params


@dataclass(frozen=True)
class Device:
    """The smallest device of this machine that a process would train on."""

    name: str
    bytes: int
    count: int


def find_device(on_gpu: bool) -> Device | None:
    """Memory of the machine, or its smallest GPU; None where a GPU is wanted and none is here."""
    if not on_gpu:
        return Device("this machine", psutil.virtual_memory().total, 1)
    import torch

    if not torch.cuda.is_available():
        return None
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    smallest = min(found, key=lambda each: each.total_memory)
    return Device(smallest.name, smallest.total_memory, len(found))


def memory_plan(params: Params, device: Device | None) -> Plan:
    """The plan of these parameters on a device; None plans for one of unknown size.

    Raises the errors of `policy_config` and `fit`.
    """
    shape, setup = Shape.of(policy_config(params.train.policy)), Setup.of(params)
    update = params.train.ppo.mini_batch * params.train.ppo.episodes
    return plan(shape, setup) if device is None else fit(shape, setup, device, update)


def fit(shape: Shape, setup: Setup, device: Device, update: int) -> Plan:
    """The plan on a device, for updates of so many episodes. Raises ConfigurationError where it cannot fit."""
    made = plan(shape, setup, device.bytes)
    taken = round(setup.utilization * device.bytes)
    if setup.on_gpu and taken < made.least_rollout:
        raise ConfigurationError(
            f"vLLM would take {size(taken)} of {device.name}, and the policy with one episode needs "
            f"{size(made.least_rollout)}; raise actor_rollout_ref.rollout.gpu_memory_utilization in train.overrides"
        )
    if made.highest > device.bytes:
        raise ConfigurationError(_too_big(made, device, largest_micro_batch(shape, setup, device.bytes, update)))
    return made


def announce(params: Params) -> None:
    """Say what PPO will need, before anything of it is loaded; raises the errors of `memory_plan`."""
    device = find_device(params.train.backend == "gpu")
    made = memory_plan(params, device)
    room = (
        f"of the {size(device.bytes)} of {device.name}" if device else "a GPU; none was found here to hold it against"
    )
    note = f"PPO takes up to {size(made.highest)} {room}"
    with Progress("train", total=1, unit="memory plan", note=note) as progress:
        for line in made.lines():
            say(f"  {line}")
        progress.advance(1)


def _too_big(made: Plan, device: Device, micro_batch: int | None) -> str:
    least = (
        f"set train.ppo.micro_batch to {micro_batch}, which changes nothing but the speed"
        if micro_batch
        else "train on more GPUs, offload (actor_rollout_ref.actor.fsdp_config.optimizer_offload and the critic's), or "
        "adapt by LoRA (actor_rollout_ref.model.lora_rank), the last two in train.overrides"
    )
    parts = "\n".join(f"  {line}" for line in made.lines())
    return (
        f"PPO would take {size(made.highest)} where {device.name} has {size(device.bytes)}, with every episode as long "
        f"as it may be:\n{parts}\n; {least}"
    )
