"""verl's agent loop as a thin adapter: each sample is one episode of the shared driver."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, AgentLoopWorker

from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import chat_ids
from stages.shared.episode.types import Episode, Generate, Generation
from stages.shared.params import PoolLimits
from stages.shared.policy import load_tokenizer
from stages.shared.pool.fallback import open_pool
from stages.shared.pool.ledger import Ledger
from stages.train.ppo.columns import parse_roster
from stages.train.ppo.exchange import ExchangeClient
from stages.train.ppo.job import Job
from stages.train.ppo.overlays import ROLLOUT

EPISODE = "episode"
"""Column that carries a finished `Episode` from the workers to the manager, which scores it."""


class LlmServer(Protocol):
    """The part of verl's `LLMServerClient` that an episode needs."""

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
        """Token ids, and their log-probabilities where `logprobs` asks for them."""
        ...


def generator(server: LlmServer, sampling: Mapping[str, Any], seed: int) -> Generate:
    """verl's generation server as the driver's `Generate`: one request id an episode, a fresh dict and seed each turn.

    vLLM changes the dict of sampling parameters in place, hence the copy.
    """
    request_id = uuid4().hex
    seeds = random.Random(seed)

    async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """One turn."""
        turn = {
            **sampling,
            "max_tokens": max_tokens,
            "stop": list(stop),
            "include_stop_str_in_output": True,
            "seed": seeds.getrandbits(31),
        }
        output = await server.generate(request_id=request_id, prompt_ids=list(context), sampling_params=turn)
        scores = tuple(output.log_probs) if output.log_probs else None
        finish = "length" if output.stop_reason == "length" else "stop"
        return Generation(tuple(output.token_ids), scores, "length" if finish == "length" else "stop")

    return generate


def to_output(episode: Episode) -> AgentLoopOutput:
    """An episode in verl's terms: candidates' tokens have mask 0, and nothing follows the policy's last token.

    verl puts the reward on the last token; on one that is masked GAE would lose it. The manager scores later, with the
    whole batch before it, so the reward here is a placeholder.
    """
    end = max((place + 1 for place, own in enumerate(episode.response_mask) if own), default=1)
    scores = None if episode.log_probs is None else list(episode.log_probs[:end])
    return AgentLoopOutput(
        prompt_ids=list(episode.prompt_ids),
        response_ids=list(episode.response_ids[:end]),
        response_mask=list(episode.response_mask[:end]),
        response_logprobs=scores,
        reward_score=0.0,
        num_turns=2 * len(episode.turns),
        metrics=AgentLoopMetrics(),
        extra_fields={EPISODE: episode, "reward_extra_info": {}},
    )


def share(limits: PoolLimits, workers: int) -> PoolLimits:
    """What one of several workers may do, so that together they keep to the concurrency that was asked for."""
    return limits.model_copy(update={"concurrency": max(1, limits.concurrency // workers)})


class EpisodeWorker(AgentLoopWorker):
    """Plays the episodes of its share of a batch, all at once, against the pool over HTTP."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._job = Job.load()
        torch.set_num_threads(1)
        self._words = load_tokenizer(self._job.policy)
        self._descriptors = {descriptor.name: descriptor for descriptor in self._job.descriptors}
        ledger = Ledger(self._job.ledger, self._job.limits.budget)
        limits = share(self._job.limits, self.rollout_config.agent.num_workers)
        self._pool = open_pool(self._job.candidates, limits, ledger, "train")
        in_batches = self.rollout_config.name == ROLLOUT
        self._server: LlmServer = ExchangeClient(self._find_server) if in_batches else self.llm_client

    async def _find_server(self) -> Any:
        _, server = await self.llm_client._acquire_server(uuid4().hex)
        return server

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, trace: bool = True, **columns: Any
    ) -> Any:
        """verl instantiates an agent loop a sample by Hydra, which takes longer than the episode's own bookkeeping."""
        place = (self._job.seed, trajectory["step"], int(trajectory["sample_index"]), trajectory["rollout_n"])
        episode = await run_episode(
            chat_ids(self._words, columns["raw_prompt"][0]["content"]),
            parse_roster(columns["roster"], self._descriptors),
            generator(self._server, sampling_params, hash(place)),
            self._pool,
            self._words,
            self._job.episode,
        )
        columns.pop("agent_name", None)
        return await self._agent_loop_postprocess(to_output(episode), trajectory["validate"], **columns)

    def _pad_token_ids(
        self, tokens: list[int], *, max_length: int, padding_side: str, return_attention_mask: bool
    ) -> dict[str, torch.Tensor]:
        """verl's own goes through the tokenizer, three times a sample."""
        pad = self._words.pad_token_id or 0
        ids = torch.full((1, max_length), pad, dtype=torch.long)
        mask = torch.zeros((1, max_length), dtype=torch.long)
        place = slice(max_length - len(tokens), max_length) if padding_side == "left" else slice(0, len(tokens))
        ids[0, place] = torch.tensor(tokens, dtype=torch.long)
        mask[0, place] = 1
        return {"input_ids": ids, "attention_mask": mask} if return_attention_mask else {"input_ids": ids}
