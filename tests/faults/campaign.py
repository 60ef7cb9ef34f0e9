"""What a campaign plays through bad weather: profile, rollouts and evaluation, with a scripted policy."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.profile.asking import ask_all
from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import make_roster
from stages.shared.episode.types import Episode, Generation
from stages.shared.params import EpisodeParams, Expert, PoolLimits, SandboxPool, WorldParams
from stages.shared.pool.candidate import Candidate, Descriptor, Reply, TopicSkill
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import Ledger, Place, open_ledger
from stages.shared.pool.serving import sandbox_candidates
from stages.shared.progress import Progress
from stages.shared.questions import Question, SubQuestion
from stages.shared.sandbox.language import draw_wording, phrase, phrase_parts
from stages.shared.sandbox.world import Ask, World

WORLD = WorldParams(entities=320)
LIMITS = PoolLimits(concurrency=64, timeout_s=0.4, attempts=8)
POOL = SandboxPool(
    experts=(
        Expert(name="Arlix", skill={"plant": 0.9, "song": 0.2, "stone": 0.95, "town": 0.3}, price=0.4,
               prompt_price=0.1),
        Expert(name="Bomon", skill={"plant": 0.3, "song": 0.2, "stone": 0.3, "town": 0.95}, price=1.1, prompt_price=0.3,
               verbosity="sentence"),
    ),
    time_scale=0.0,
    limits=LIMITS,
)  # fmt: skip
EPISODE = EpisodeParams(
    max_calls=3, prompt_tokens=4000, response_tokens=4000, turn_tokens=1000, reply_tokens=200, prompt="compact"
)
SKILL = {topic: TopicSkill(0.9, 0.9, 9) for topic in ("plant", "song", "stone", "town")}
DESCRIPTORS = [Descriptor(expert.name, expert.price, 0.5, SKILL) for expert in POOL.experts]


@dataclass(frozen=True)
class Scores:
    """All that a campaign measures, and no cost: what was charged for a fault is part of that."""

    profile: dict[tuple[str, str], str]
    """Candidate and question -> reply."""
    rollouts: list[tuple[str | None, str, list[str]]]
    """Answer, ending and turns of each episode."""
    evaluation: list[tuple[str, tuple[str, ...]]]
    """Prediction and called candidates of each question."""


class Characters:
    """A tokenizer of one token a character."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> list[int]:
        return self.encode(conversation[0]["content"] + "\nassistant ")


async def policy(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
    """Asks Arlix the question, then Bomon for the mayor of what it said, and answers with the last reply."""
    text = "".join(map(chr, context))
    question = re.findall(r"question : (.*)", text)[0]
    told = re.findall(r"<information> (?:it is )?(.*?) </information>", text)
    if text.endswith("<answer>"):
        written = f" {told[-1] if told else 'nothing'} </answer>"
    elif not told:
        written = f"<think> stone </think> <search> Arlix : {question} </search>"
    elif len(told) == 1:
        written = f"<think> town </think> <search> Bomon : what is the mayor of {told[0]} ? </search>"
    else:
        written = f"<think> done </think> <answer> {told[-1]} </answer>"
    return Generation(tuple(map(ord, written)), None, "stop")


def make_questions(count: int) -> list[Question]:
    """Single-hop and two-hop questions, half of each."""
    world, rng = World.generate(WORLD), random.Random(1)
    stones = world.entities("stone")
    asks = [Ask("chain", ("stone-quarry",), (stones[place].name,)) for place in range(count // 2)]
    asks += [Ask("chain", ("stone-quarry", "town-mayor"), (stones[place].name,)) for place in range(count - len(asks))]
    return [_question(world, ask, rng) for ask in asks]


def _question(world: World, ask: Ask, rng: random.Random) -> Question:
    dataset = "nq" if ask.hops == 1 else "hotpotqa"
    wording = draw_wording(ask, dataset, rng)
    pieces = phrase_parts(world, ask, wording) if ask.hops > 1 else []
    parts = tuple(SubQuestion(text, world.answer(part), part.topic) for part, text in pieces)
    return Question(phrase(ask, dataset, rng, wording), world.answer(ask), dataset, "test", ask.topic, ask.hops, parts)


def candidates(base_url: str) -> tuple[Candidate, ...]:
    """The experts, where the weather is."""
    return sandbox_candidates(POOL, base_url)


async def run(base_url: str, folder: Path, questions: Sequence[Question]) -> Scores:
    """Profile, rollouts and evaluation, each with a pool and a ledger of its own, as stages have."""
    with ledger(folder, "profile") as one, ledger(folder, "train") as two, ledger(folder, "evaluate") as three:
        return Scores(
            await profile(base_url, one, folder, questions),
            await _rollouts(base_url, two, questions),
            await _evaluation(base_url, three, folder, questions),
        )


def ledger(folder: Path, stage: str) -> AbstractContextManager[Ledger]:
    """The ledger of a stage in a campaign's folder."""
    return open_ledger(Place(folder / "ledger", stage, "campaign", "run"), LIMITS.budget)


async def profile(
    base_url: str, ledger: Ledger, folder: Path, questions: Sequence[Question]
) -> dict[tuple[str, str], str]:
    asked = [question.question for question in questions]
    async with HttpPool(candidates(base_url), LIMITS, ledger, once=True) as pool:
        with Progress("profile", 0, "calls", root=folder) as progress:
            replies: Mapping[tuple[str, str], Reply] = await ask_all(pool, asked, progress)
    return {key: reply.text for key, reply in replies.items()}


async def _rollouts(
    base_url: str, ledger: Ledger, questions: Sequence[Question]
) -> list[tuple[str | None, str, list[str]]]:
    roster, words = make_roster(DESCRIPTORS), Characters()
    async with HttpPool(candidates(base_url), LIMITS, ledger) as pool:

        async def play(question: Question) -> Episode:
            prompt = chat_ids(words, render_prompt(question.question, roster, EPISODE.prompt, EPISODE.max_calls))
            return await run_episode(prompt, roster, policy, pool, words, EPISODE)

        episodes = await asyncio.gather(*(play(question) for question in questions for _ in range(2)))
    return [(one.answer, one.ending, [turn.text + turn.observation for turn in one.turns]) for one in episodes]


async def _evaluation(
    base_url: str, ledger: Ledger, folder: Path, questions: Sequence[Question]
) -> list[tuple[str, tuple[str, ...]]]:
    from stages.evaluate.measure import Measurement, make_lines
    from stages.evaluate.own import Tariff
    from stages.evaluate.player import Player
    from stages.evaluate.replies import RememberingPool

    async with HttpPool(candidates(base_url), LIMITS, ledger) as http:
        player = Player(policy, Characters(), EPISODE, RememberingPool(http))
        (line,) = make_lines(DESCRIPTORS, http.candidates)
        with Progress("evaluate", 0, "episodes", root=folder) as progress:
            measurement = Measurement(player, player, questions, Tariff(0.1, 1.0), in_flight=32, progress=progress)
            attempts = [*await measurement.router(line), *await measurement.direct(line)]
            table = await measurement.table([line])
            attempts += [table.attempt(question, name) for question in questions for name in line.names]
    return [(attempt.prediction, attempt.called) for attempt in attempts]


@dataclass
class Entry:
    """What the ledgers say of one idempotency key, picos."""

    settled: int = 0
    open: int = 0
    """Held back for attempts of which nobody knows whether they were charged."""


def entries(folder: Path) -> dict[str, Entry]:
    """By key, over all ledgers of a campaign's folder."""
    rows = [json.loads(line) for path in (folder / "ledger").glob("*.jsonl") for line in path.read_text().splitlines()]
    ends = {row["end"]: row["cost"] for row in rows if "end" in row}
    found: dict[str, Entry] = {}
    for row in rows:
        if "begin" in row:
            entry, cost = found.setdefault(row["key"], Entry()), ends.get(row["begin"])
            entry.settled += cost or 0
            entry.open += row["most"] if cost is None else 0
    return found


def reconcile(bills: Mapping[str, int], folder: Path) -> tuple[int, int]:
    """Hold a provider's bill against the ledgers, attempt by attempt: what is settled and what is open, picos."""
    known = entries(folder)
    assert bills.keys() <= known.keys(), "a call was made that no ledger knows"
    for key, entry in known.items():
        unsettled = bills.get(key, 0) - entry.settled
        assert 0 <= unsettled <= entry.open, f"{key}: charged {bills.get(key, 0)}, in the ledger {entry}"
    return sum(entry.settled for entry in known.values()), sum(entry.open for entry in known.values())


async def main(base_url: str, folder: Path, count: int) -> None:
    """Profile in a process of its own, that a test may kill."""
    with ledger(folder, "profile") as opened:
        replies = await profile(base_url, opened, folder, make_questions(count))
    print(json.dumps(sorted([*key, text] for key, text in replies.items())))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
