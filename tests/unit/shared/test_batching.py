"""The batched generator writes what transformers would write, whoever else is being served."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.shared.batching import BatchedGenerator
from stages.shared.decoding import Decoder, Request
from stages.shared.episode.types import Generation
from stages.shared.errors import ConfigurationError
from stages.shared.network import Network
from stages.train.tiny.tokenizer import build_tokenizer

TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def words() -> Any:
    return build_tokenizer()


def build(family: str, words: Any, kv_heads: int = 2, seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": kv_heads, "max_position_embeddings": 512, "bos_token_id": None,
        "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, "initializer_range": 0.3,
    }  # fmt: skip
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True)).eval()
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128}  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False, rope_parameters=rope)).eval()


def shallow(words: Any) -> Any:
    """Weights of a common size: with larger ones, rounding alone moves a log-probability by more than 1e-5."""
    model = build("qwen2", words)
    for weight in model.parameters():
        weight.data *= 0.3
    return model


def written_alone(model: Any, words: Any, request: Request) -> Generation:
    """What a decoder that has nothing cached and serves nobody else writes."""
    decoder = Decoder(model, words)
    done = decoder.step([request])
    while not done:
        done = decoder.step()
    return done[0][1]


def contexts(count: int, vocabulary: int, longest: int = 30, seed: int = 1) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(4, vocabulary) for _ in range(rng.randrange(1, longest))] for _ in range(count)]


def expected(model: Any, context: Sequence[int], tokens: int) -> list[int]:
    ids = torch.tensor([list(context)])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return [int(token) for token in written[0, len(context) :]]


def rescored(model: Any, context: Sequence[int], written: Generation, temperature: float = 1.0) -> list[float]:
    """Log-probabilities from one forward pass over the whole sequence."""
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *written.token_ids]])).logits[0] / temperature
    scores = logits.float().log_softmax(-1)
    return [float(scores[len(context) + i - 1, token]) for i, token in enumerate(written.token_ids)]


@pytest.mark.parametrize("family,kv_heads", [("qwen2", 4), ("qwen2", 2), ("llama", 1)])
async def test_greedy_tokens_are_those_of_transformers(words: Any, family: str, kv_heads: int) -> None:
    model = build(family, words, kv_heads)
    asked = contexts(12, len(words))
    async with BatchedGenerator(model, words) as generator:
        written = await asyncio.gather(*[generator.generate(context, max_tokens=12) for context in asked])
    for context, generation in zip(asked, written, strict=True):
        assert list(generation.token_ids) == expected(model, context, 12)


async def test_log_probs_are_those_of_a_whole_forward_pass(words: Any) -> None:
    model, (context,) = build("qwen2", words), contexts(1, len(words), seed=5)
    async with BatchedGenerator(model, words) as generator:
        sampled = await generator.generate(context, max_tokens=20, temperature=0.7, seed=3)
        greedy = await generator.generate(context, max_tokens=20)
    assert sampled.log_probs == pytest.approx(rescored(model, context, sampled, 0.7), abs=TOLERANCE)
    assert greedy.log_probs == pytest.approx(rescored(model, context, greedy), abs=TOLERANCE)


async def test_later_turns_reuse_what_is_cached_and_change_nothing(words: Any) -> None:
    model = build("qwen2", words)
    shared = contexts(2, len(words), seed=7)
    rng = random.Random(2)

    async def episode(generator: BatchedGenerator, prompt: list[int], seed: int) -> list[tuple[list[int], Generation]]:
        context, turns = list(prompt), []
        for turn in range(3):
            written = await generator.generate(context, max_tokens=8, temperature=1.0, seed=seed + turn)
            turns.append((list(context), written))
            context += [*written.token_ids, *(rng.randrange(4, len(words)) for _ in range(rng.randrange(1, 9)))]
        return turns

    async with BatchedGenerator(model, words, max_rows=16) as generator:
        played = await asyncio.gather(*[episode(generator, shared[i % 2], 10 * i) for i in range(12)])
    for context, written in (turn for turns in played for turn in turns):
        assert written.log_probs == pytest.approx(rescored(model, context, written), abs=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(
    tables=st.lists(st.integers(20, 90), min_size=1, max_size=3),
    asked=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 24), st.booleans()), min_size=1, max_size=12),
    max_rows=st.integers(1, 6),
    forget=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_shared_beginning_gives_the_log_probs_of_a_prompt_computed_alone(
    words: Any, tables: list[int], asked: list[tuple[int, int, bool]], max_rows: int, forget: bool, seed: int
) -> None:
    model, rng = shallow(words), random.Random(seed)
    heads = [[rng.randrange(4, len(words)) for _ in range(length)] for length in tables]
    requests = [
        Request((*heads[table % len(heads)], *(rng.randrange(4, len(words)) for _ in range(own))), 4, (), float(hot))
        for table, own, hot in asked
    ]
    together, found = Decoder(model, words, max_rows), {}
    for part in (requests[: len(requests) // 2], requests[len(requests) // 2 :]):
        done = together.step(part)
        if forget:
            together.forget()
        while together.busy:
            done += together.step()
        found |= dict(done)
    assert set(found) == set(requests)
    for request, generation in found.items():
        alone = written_alone(model, words, request)
        assert generation.token_ids == alone.token_ids
        assert generation.log_probs == pytest.approx(alone.log_probs, abs=1e-5)


async def test_a_table_that_greedy_questions_share_is_computed_once(words: Any) -> None:
    model, (table,) = build("qwen2", words), contexts(1, len(words), longest=2, seed=3)
    table = table * 100
    seen: list[int] = []
    network = Decoder(model, words)
    count = network._network.hidden
    network._network.hidden = lambda tokens, *rest: (seen.append(len(tokens)), count(tokens, *rest))[1]  # type: ignore
    requests = [Request((*table, *question), 1, ()) for question in ([5, 6, 7], [8, 9], [10, 11, 12, 13])]
    network.step(requests[:2])
    assert sum(seen) == len(table) + 2 + 1 + 2
    seen.clear()
    network.step(requests[2:])
    assert sum(seen) == 4


async def test_more_callers_than_rows_are_all_served_right(words: Any) -> None:
    model, asked = build("qwen2", words), contexts(20, len(words), seed=9)
    async with BatchedGenerator(model, words, max_rows=3) as generator:
        for _ in range(2):
            written = await asyncio.gather(*[generator.generate(context, max_tokens=6) for context in asked])
            for context, generation in zip(asked, written, strict=True):
                assert list(generation.token_ids) == expected(model, context, 6)


def play(model: Any, words: Any, prompts: Sequence[list[int]], numbers: Sequence[int], order: int) -> dict[int, Any]:
    """Episodes of three turns whose prompts and draws hang on their numbers, whose times of asking hang on `order`."""
    decoder, times = Decoder(model, words), random.Random(order)
    draws = {number: random.Random(number) for number in numbers}
    found: dict[int, list[Generation]] = {number: [] for number in numbers}
    context = {number: list(prompts[number % len(prompts)]) for number in numbers}
    due, running, clock = {number: times.randrange(30) for number in numbers}, {}, 0
    while due or running:
        now = [number for number in numbers if due.get(number, clock + 1) <= clock]
        times.shuffle(now)
        for number in now:
            seed = 100 * number + len(found[number])
            running[Request(tuple(context[number]), 6, (), 1.0, 0.9, seed)] = number
            del due[number]
        asked = list(running)[len(running) - len(now) :]
        for request, generation in decoder.step(asked):
            number = running.pop(request)
            found[number].append(generation)
            reply = [draws[number].randrange(4, len(words)) for _ in range(draws[number].randrange(40))]
            context[number] += [*generation.token_ids, *reply]
            if len(found[number]) < 3:
                due[number] = clock + 1 + times.randrange(15)
        clock += 1
    return found


@pytest.mark.parametrize("family,kv_heads", [("qwen2", 4), ("qwen2", 2), ("llama", 1)])
def test_a_seeded_episode_is_the_same_to_the_last_bit_whoever_shares_the_batch(
    words: Any, family: str, kv_heads: int
) -> None:
    model, rng = build(family, words, kv_heads), random.Random(11)
    lengths = 20, 35, 72, 150, 189, 233, 319, 410
    prompts = [[rng.randrange(4, len(words)) for _ in range(length)] for length in lengths]
    everybody = play(model, words, prompts, range(24), order=0)
    for order in range(1, 5):
        few = rng.sample(range(24), order)
        assert play(model, words, prompts, range(24), order) == everybody, order
        assert play(model, words, prompts, few, order) == {number: everybody[number] for number in few}


async def test_new_weights_take_the_place_of_cached_keys(words: Any) -> None:
    old, new = build("qwen2", words), build("qwen2", words, seed=99)
    (context,) = contexts(1, len(words), seed=13)
    async with BatchedGenerator(old, words) as generator:
        await generator.generate(context, max_tokens=5)
        await generator.load_weights(new.state_dict())
        written = await generator.generate(context, max_tokens=5)
        with pytest.raises(KeyError, match="nonsense"):
            await generator.load_weights({"nonsense": torch.zeros(1)})
    assert list(written.token_ids) == expected(new, context, 5)


async def test_a_stop_string_of_one_token_ends_a_generation_and_is_kept(words: Any) -> None:
    model = build("qwen2", words)
    stop = words.convert_tokens_to_ids("</search>")
    (context,) = contexts(1, len(words), seed=17)
    with torch.no_grad():
        model.get_input_embeddings().weight[stop] = 0.0
    async with BatchedGenerator(model, words) as generator:
        settings = {"max_tokens": 200, "stop": ("</search>",), "temperature": 2.0}
        written = await asyncio.gather(*[generator.generate(context, seed=seed, **settings) for seed in range(40)])
    ended = [generation for generation in written if generation.finish == "stop"]
    assert any(generation.token_ids[-1] == stop for generation in ended)
    for generation in written:
        assert stop not in generation.token_ids[:-1]


def test_a_network_of_another_family_is_refused_with_the_way_out() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(ConfigurationError, match="gpt2 model cannot run on the CPU backend"):
        Network(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=10)))


async def test_nothing_to_generate_is_refused(words: Any) -> None:
    async with BatchedGenerator(build("qwen2", words), words) as generator:
        with pytest.raises(ValueError, match="0 tokens of context"):
            await generator.generate([], max_tokens=3)
