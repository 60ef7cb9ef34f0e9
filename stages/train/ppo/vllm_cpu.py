"""vLLM's CPU build under verl: the rollout of the GPU profiles, its weight transfer included, where there is no GPU.

On a CPU vLLM packs the weights of its linear layers once they are loaded, and drops the originals, so that verl could
load no others in their place after an update. Here they stay as they are; everything else is verl's own.
"""

from __future__ import annotations

from typing import Any

import ray
import torch
import vllm.model_executor.layers.utils as layers
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica


def leave_unpacked(layer: torch.nn.Module, remove_weight: bool) -> None:
    """Takes the place of vLLM's `dispatch_cpu_unquantized_gemm`: torch's own product, with the weight as loaded."""
    layer.cpu_linear = torch.nn.functional.linear


class Extension(vLLMColocateWorkerExtension):
    """verl's part of a vLLM worker."""

    def __new__(cls, **kwargs: Any) -> Extension:
        """vLLM mixes this into its worker, and makes that before it loads a model."""
        layers.dispatch_cpu_unquantized_gemm = leave_unpacked
        made: Extension = super().__new__(cls, **kwargs)
        return made


class Server(vLLMHttpServer):
    """verl's server, with our part in its workers."""

    def _get_worker_extension_cls(self) -> str:
        return f"{Extension.__module__}.{Extension.__name__}"


class Replica(vLLMReplica):
    """Starts the server of one rank."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(Server)
