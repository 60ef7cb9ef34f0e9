"""Whether this machine can train: its GPUs, its memory, its disk: `python -m stages.train.check`."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.shared.errors import PipelineError
from stages.shared.finding import Finding, run_check
from stages.shared.params import Params
from stages.train.memory.plan import Plan, size
from stages.train.memory.room import Device, find_device, memory_plan

PATIENCE_S = 5.0
SPARE_CHECKPOINTS = 2
"""Beside those that are kept: the best, and the one that is being written."""


def training(params: Params) -> Sequence[Finding]:
    """Findings of the GPU, the memory plan and the disk."""
    return list(_look(params))


def _look(params: Params) -> Iterator[Finding]:
    on_gpu = params.train.backend == "gpu"
    device = find_device(on_gpu)
    yield _gpu(params, device) if on_gpu else Finding("GPU", "good", "none is needed (train.backend is cpu)")
    try:
        made = memory_plan(params, device)
    except PipelineError as error:
        yield Finding.of("memory for PPO", error)
        return
    yield _memory(made, device)
    yield _disk(made, params.train.ppo.keep)


def _gpu(params: Params, device: Device | None) -> Finding:
    wanted = params.train.gpus_per_node
    if params.train.ray_address is not None:
        return _cluster(params.train.ray_address)
    if device is None:
        found = f"no GPU that torch can use, and {params.profile_name} needs {wanted}"
        todo = "run where there are GPUs, set up by infra/images/requirements-gpu.txt, or `pointsman use sandbox`"
        return Finding("GPU", "wrong", found, todo)
    found = f"{device.count} x {device.name}, {size(device.bytes)} each"
    if device.count < wanted:
        return Finding("GPU", "wrong", found, f"set train.gpus_per_node ({wanted}) to {device.count}")
    return Finding("GPU", "good", found)


def _cluster(address: str) -> Finding:
    """Whether something answers where a Ray is to be joined."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return Finding("GPU", "note", f"those of the Ray cluster {address}; not looked at from here")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except OSError as error:
        todo = f"start one there (`ray start --head --port={port}`), or correct train.ray_address"
        return Finding("GPU", "wrong", f"no Ray answers at {address}: {error}", todo)
    keys = "this checkout must lie at the same path on every node, and keys in the environment of `ray start`"
    return Finding("GPU", "note", f"those of the Ray cluster at {address}, which answers; {keys}")


def _memory(made: Plan, device: Device | None) -> Finding:
    parts = "\n".join(made.lines())
    if device is None:
        return Finding("memory for PPO", "note", f"up to {size(made.highest)} a GPU\n{parts}")
    return Finding("memory for PPO", "good", f"up to {size(made.highest)} of {size(device.bytes)}\n{parts}")


def _disk(made: Plan, keep: int) -> Finding:
    needed = (keep + SPARE_CHECKPOINTS) * made.checkpoint
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{size(free)} free, checkpoints take up to {size(needed)}"
    if free < needed:
        return Finding("disk", "wrong", found, "free some: `dvc gc -w` drops old artifacts")
    return Finding("disk", "good", found)


if __name__ == "__main__":
    raise SystemExit(run_check("train", training))
