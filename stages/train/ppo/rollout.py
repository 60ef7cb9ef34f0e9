"""verl's rollout on the CPU: one server process around `BatchedGenerator`, and the sender of new weights to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

from stages.shared.batching import BatchedGenerator
from stages.shared.episode.types import Generation
from stages.shared.policy import load_policy, load_tokenizer
from stages.train.ppo.exchange import Counter, Order, Parcel
from stages.train.ppo.job import Job


class CpuServer:
    """A Ray actor: token ids in, token ids out."""

    def __init__(self, folder: str, dtype: str, max_rows: int) -> None:
        job = Job.load()
        torch.set_num_threads(job.threads)
        model = load_policy(folder, getattr(torch, dtype))
        self._generator = BatchedGenerator(model, load_tokenizer(folder), max_rows=max_rows, seed=job.seed)
        self._counter = Counter(self._write)
        self._step = 0

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        """One generation; see verl's `LLMServerClient.generate`."""
        written = await self._write(prompt_ids, sampling_params)
        return TokenOutput(
            token_ids=list(written.token_ids),
            log_probs=list(written.log_probs or ()),
            stop_reason=written.finish,
            extra_fields={"global_steps": self._step},
        )

    async def post(self, worker: str, orders: list[Order]) -> None:
        """Many generations at once; see `ExchangeClient`."""
        self._counter.post(worker, orders)

    async def fetch(self, worker: str) -> list[Parcel]:
        """Those that are ready."""
        return await self._counter.fetch(worker)

    async def _write(self, prompt_ids: list[int], sampling: dict[str, Any]) -> Generation:
        return await self._generator.generate(
            prompt_ids,
            max_tokens=sampling["max_tokens"],
            stop=sampling.get("stop") or (),
            temperature=sampling["temperature"],
            top_p=sampling["top_p"],
            seed=sampling.get("seed"),
        )

    async def load_weights(self, weights: dict[str, torch.Tensor], step: int | None) -> None:
        """Take over the trainer's weights."""
        await self._generator.load_weights(weights)
        self._step = self._step if step is None else step

    async def wake_up(self, tags: list[str] | None = None) -> None:
        """Nothing sleeps on a CPU."""

    async def sleep(self) -> None:
        """Nothing sleeps on a CPU."""

    async def clear_kv_cache(self) -> None:
        """New weights clear it."""

    async def abort_all_requests(self, reject_request: bool = False) -> dict[str, Any]:
        """Synchronous training leaves none."""
        return {"aborted_count": 0, "request_ids": []}

    async def resume_generation(self) -> None:
        """Generation never stops."""


def _server_name(rank: int) -> str:
    return f"{CpuServer.__name__}_{rank}"


class CpuReplica(RolloutReplica):
    """Starts the server of one rank."""

    async def launch_servers(self) -> None:
        """See `RolloutReplica`."""
        name = _server_name(self.replica_rank)
        options = {"name": name, "num_cpus": 0, "max_concurrency": self.max_concurrency}
        server = ray.remote(CpuServer).options(**options).remote(
            str(self.model_config.path), str(self.config.dtype), self.config.max_num_seqs
        )  # fmt: skip
        self.servers = [server]
        self._server_handle, self._server_address = server, name


class WeightSender(BaseRollout):
    """Lives in the trainer's process; hands its weights to the server after each update."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1, **_: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        rank = int(os.environ["RANK"])
        self._rank = rank if replica_rank == -1 else replica_rank
        self._server: Any = None

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """Nothing is held."""

    @torch.no_grad()
    async def update_weights(
        self, weights: Iterator[tuple[str, torch.Tensor]], global_steps: int | None = None, **_: Any
    ) -> None:
        """Send every weight, in the rollout's precision."""
        dtype = getattr(torch, str(self.config.dtype))
        state = {name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in weights}
        if self._server is None:
            self._server = ray.get_actor(_server_name(self._rank))
        await self._server.load_weights.remote(state, global_steps)
