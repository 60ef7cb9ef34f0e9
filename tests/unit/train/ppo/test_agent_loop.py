"""verl's generation server under the shared driver, and episodes in verl's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from stages.shared.episode.driver import run_episode
from stages.shared.episode.normaliser import CostNormaliser
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import make_roster
from stages.shared.episode.types import Episode, Generation
from stages.shared.errors import TransientError
from stages.shared.params import EpisodeParams, PoolLimits, RewardParams
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply
from stages.train.ppo.agent_loop import generator, share, to_output
from stages.train.ppo.exchange import Counter, ExchangeClient, Order, Parcel
from stages.train.ppo.manager import normalisers, refuse_dead_pool, rewarded
from stages.train.ppo.record import StepRecord
from stages.train.tiny.tokenizer import build_tokenizer

WORDS = build_tokenizer()
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "logprobs": True}
CALL = "<think> stone </think> <search> Arlix : what is the quarry of zumako ? </search>"
ANSWER = "<think> done </think> <answer> bade </answer>"


class Server:
    """Says what it is told to, and changes the dict of sampling parameters in place, as vLLM does."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.calls: list[dict[str, Any]] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
        self.calls.append({"request_id": request_id, "prompt": prompt_ids, **sampling_params})
        ids = WORDS.encode(self.texts.pop(0), add_special_tokens=False)
        sampling_params.clear()
        return SimpleNamespace(token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="stop")


@dataclass
class OnePool:
    reply: Reply

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return {name: Candidate(name, name, "http://127.0.0.1:1/v1", 2.0, 0.1) for name in ("Arlix", "Bomon", "Cyqun")}

    async def ask(self, name: str, query: str) -> Reply:
        return self.reply


async def play(server: Server, descriptors: tuple[Descriptor, ...], reply: Reply) -> Episode:
    roster = make_roster(descriptors)
    prompt = chat_ids(WORDS, render_prompt("what is the quarry of zumako ?", roster, "compact"))
    params = EpisodeParams(prompt_tokens=256, response_tokens=200, turn_tokens=60, reply_tokens=20, prompt="compact")
    return await run_episode(prompt, roster, generator(server, SAMPLING, 7), OnePool(reply), WORDS, params)


REPLY = Reply("bade", Outcome.ANSWERED, 10, 3)
FAILURE = Reply("", Outcome.TIMED_OUT)


async def test_every_turn_gets_its_own_parameters_and_one_request_id(descriptors: tuple[Descriptor, ...]) -> None:
    server = Server(CALL, ANSWER)
    await play(server, descriptors, REPLY)
    first, second = server.calls
    assert first["request_id"] == second["request_id"]
    assert first["temperature"] == second["temperature"] == 1.0
    assert first["stop"] == ["</search>", "</answer>"]
    assert first["include_stop_str_in_output"]
    assert first["seed"] != second["seed"]
    assert second["prompt"][: len(first["prompt"])] == first["prompt"]


async def test_the_candidates_tokens_are_masked_and_nothing_follows_the_policys_last(
    descriptors: tuple[Descriptor, ...],
) -> None:
    episode = await play(Server(CALL, ANSWER), descriptors, REPLY)
    output = to_output(episode)
    masked = [token for token, own in zip(output.response_ids, output.response_mask, strict=True) if not own]
    assert "bade" in WORDS.decode(masked)
    assert output.response_mask[-1] == 1
    assert len(output.response_ids) == len(output.response_mask) == len(output.response_logprobs)
    cut = Episode(
        **{**episode.__dict__, "response_ids": (5, 6, 7), "response_mask": (1, 0, 0), "log_probs": (-1.0, 0.0, 0.0)}
    )
    assert to_output(cut).response_ids == [5]


async def test_a_failed_call_neither_pays_nor_costs(descriptors: tuple[Descriptor, ...]) -> None:
    from stages.train.ppo.manager import EpisodeManager  # noqa: F401  (the batch below is what it is given)

    good = await play(Server(CALL, ANSWER), descriptors, REPLY)
    bad = await play(Server(CALL, ANSWER), descriptors, FAILURE)
    job: Any = SimpleNamespace(reward=RewardParams(cost_coefficient=0.5))
    normaliser = CostNormaliser(10)
    rewards = rewarded([good, bad], [["bade"], ["bade"]], job, normaliser, "train")
    assert rewards[0].total is not None
    assert rewards[1].total is None
    assert len(normaliser.state()) == 1
    with pytest.raises(TransientError, match="step 3"):
        refuse_dead_pool([rewards[1]], 3)


async def test_each_split_holds_costs_against_its_own_and_validation_against_its_first(
    descriptors: tuple[Descriptor, ...],
) -> None:
    episode = await play(Server(CALL, ANSWER), descriptors, REPLY)
    job: Any = SimpleNamespace(reward=RewardParams(cost_coefficient=0.5))
    splits = normalisers(job.reward)
    for _ in range(3):
        for phase, normaliser in splits.items():
            rewarded([episode], [["bade"]], job, normaliser, phase)
    assert len(splits["train"].state()) == 3
    assert len(splits["validation"].state()) == 1


async def test_every_attempted_call_is_billed_the_failed_ones_too(descriptors: tuple[Descriptor, ...]) -> None:
    good = await play(Server(CALL, ANSWER), descriptors, REPLY)
    bad = await play(Server(CALL, ANSWER), descriptors, Reply("", Outcome.MALFORMED, 10, 7))
    job: Any = SimpleNamespace(reward=RewardParams(cost_coefficient=0.5))
    normaliser = CostNormaliser(10)
    rewards = rewarded([good, bad], [["bade"], ["bade"]], job, normaliser, "train")
    record = StepRecord.of(1, "train", [good, bad], rewards, normaliser, (1.0, 0.5))
    assert (record.n, record.failed, record.paid_calls) == (1, 1, 2)
    assert record.paid == pytest.approx(good.calls[0].cost_total + bad.calls[0].cost_total)
    assert rewards[1].cost == 7 * 2.0
    assert record.reward == pytest.approx(record.r_format + 0.5 * record.r_outcome + 0.5 * record.r_cost)


async def test_verls_batch_gets_the_reward_on_the_last_token_and_no_mask_for_a_failure(
    descriptors: tuple[Descriptor, ...],
) -> None:
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    from stages.train.ppo.manager import fill_in

    good = await play(Server(CALL, ANSWER), descriptors, REPLY)
    bad = await play(Server(CALL, ANSWER), descriptors, FAILURE)
    job: Any = SimpleNamespace(reward=RewardParams())
    rewards = rewarded([good, bad], [["bade"], ["bade"]], job, CostNormaliser(10), "train")
    mask = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1]])
    attention = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    tensors = {
        "prompts": torch.zeros(2, 2, dtype=torch.long),
        "attention_mask": attention,
        "response_mask": mask.clone(),
    }
    output = fill_in(DataProto(batch=TensorDict(tensors, batch_size=2), non_tensor_batch={}, meta_info={}), rewards)
    assert output.batch["rm_scores"].tolist() == [[0, 0, rewards[0].total, 0], [0, 0, 0, 0]]
    assert output.batch["response_mask"].tolist() == [mask[0].tolist(), [0, 0, 0, 0]]
    assert set(output.meta_info["reward_extra_keys"]) <= set(output.non_tensor_batch)


class Remote:
    """An actor handle's method, without the actor."""

    def __init__(self, method: Any) -> None:
        self._method = method

    async def remote(self, *arguments: Any) -> Any:
        result = self._method(*arguments)
        return await result if asyncio.iscoroutine(result) else result


async def test_requests_of_many_episodes_travel_together_and_come_back_to_theirs() -> None:
    posts = []

    async def write(prompt: list[int], sampling: dict[str, Any]) -> Generation:
        await asyncio.sleep(0.001 * sampling["wait"])
        if prompt == [13]:
            raise ValueError("no luck")
        return Generation((prompt[0] + 1,), (-1.0,), "stop")

    counter = Counter(write)

    def post(worker: str, orders: list[Order]) -> None:
        posts.append(len(orders))
        counter.post(worker, orders)

    async def acquire() -> Any:
        return SimpleNamespace(post=Remote(post), fetch=Remote(counter.fetch))

    client = ExchangeClient(acquire)
    asked = [client.generate("id", prompt_ids=[i], sampling_params={"wait": i % 5}) for i in range(40)]
    outputs = await asyncio.gather(*asked, return_exceptions=True)
    for i, output in enumerate(outputs):
        if i == 13:
            assert isinstance(output, RuntimeError)
            assert "no luck" in str(output)
        else:
            assert output.token_ids == (i + 1,)
    assert max(posts) > 10


async def test_a_server_that_dies_fails_those_who_wait() -> None:
    async def fetch(worker: str) -> list[Parcel]:
        raise ConnectionError("gone")

    async def acquire() -> Any:
        return SimpleNamespace(post=Remote(lambda *_: None), fetch=Remote(fetch))

    with pytest.raises(ConnectionError, match="gone"):
        await ExchangeClient(acquire).generate("id", prompt_ids=[1], sampling_params={})


def test_workers_keep_to_the_concurrency_together() -> None:
    limits = PoolLimits(concurrency=64)
    assert share(limits, 1) == limits
    assert share(limits, 4).concurrency == 16
    assert share(limits, 100).concurrency == 1
