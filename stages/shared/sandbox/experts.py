"""What a simulated expert answers. Everything follows from the world's seed, the expert and what is asked.

An expert answers an ask correctly with probability

    skill(domain of hop 1) x ... x skill(domain of hop n) x hop_decay^(n - 1)

so that a chain is answered badly even where every hop is known, and asking hop by hop pays. Whether it does is drawn
once from a hash of seed, expert and ask: the same question, however it is worded, always gets the same answer.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from stages.shared.errors import ConfigurationError
from stages.shared.params import Expert
from stages.shared.pool.instruction import sub_question
from stages.shared.sandbox.language import understand
from stages.shared.sandbox.lexicon import BY_NAME, DOMAINS, UNCLEAR, UNKNOWN
from stages.shared.sandbox.world import Ask, World

PIECE = 4
"""Characters of one word piece."""
MESSAGE_TOKENS = 4
"""Of a chat template, around each message."""


@dataclass(frozen=True)
class Simulated:
    """One simulated completion."""

    text: str
    correct: bool
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    fails_first: bool
    """Whether the first attempt at this question meets a 503."""

    def cost(self, expert: Expert) -> float:
        """The paper's cost: completion tokens x USD per 1M, in millionths of a dollar (section 3.2)."""
        return self.completion_tokens * expert.price


def check_experts(experts: Sequence[Expert]) -> None:
    """Raise ConfigurationError for two experts of one name, or a skill that is not given for exactly the domains."""
    names = [expert.name for expert in experts]
    if not names:
        raise ConfigurationError("pool.experts is empty; name at least two experts")
    for expert in experts:
        if names.count(expert.name) > 1:
            raise ConfigurationError(f"pool.experts names {expert.name} twice; rename one")
        if set(expert.skill) != set(DOMAINS):
            raise ConfigurationError(
                f"pool.experts, {expert.name}: skill must name {', '.join(DOMAINS)}; "
                f"found {', '.join(sorted(expert.skill)) or 'none'}"
            )


def probability(expert: Expert, ask: Ask) -> float:
    """That the expert answers this ask correctly; see the module's formula."""
    hops = ask.relations if ask.kind == "chain" else ask.relations * 2
    known = math.prod(expert.skill[BY_NAME[relation].domain] for relation in hops)
    return known * expert.hop_decay ** (ask.hops - 1)


def is_correct(world: World, expert: Expert, ask: Ask) -> bool:
    """Whether this expert's one answer to this ask is right."""
    return _chance(world, "answer", expert, ask).random() < probability(expert, ask)


def respond(world: World, expert: Expert, text: str) -> Simulated:
    """The expert's completion for a user message: a question, bare or inside `candidate_message`, or anything else."""
    ask = understand(world, sub_question(text))
    if ask is None:
        return _simulated(world, expert, text, UNCLEAR, None)
    return _simulated(world, expert, text, _answer(world, expert, ask), ask)


def count_tokens(text: str) -> int:
    """Tokens of a text by the sandbox's rule: a word is a piece for every four characters begun."""
    return sum(math.ceil(len(word) / PIECE) for word in text.split())


def short_answer(reply: str) -> str:
    """The answer within an expert's reply, without the sentence around it ("it is zumako" gives "zumako")."""
    found = _FRAME.fullmatch(reply.strip())
    return reply.strip() if found is None else next(group for group in found.groups() if group is not None)


_FRAME = re.compile(r"it is (\S+)|the .+ is (\S+)|(\S+) has the higher .+")


def _simulated(world: World, expert: Expert, prompt: str, text: str, ask: Ask | None) -> Simulated:
    key = prompt if ask is None else ask
    return Simulated(
        text=text,
        correct=ask is not None and is_correct(world, expert, ask),
        prompt_tokens=count_tokens(prompt) + MESSAGE_TOKENS,
        completion_tokens=count_tokens(text),
        latency_s=_latency(expert, _chance(world, "latency", expert, key)),
        fails_first=_chance(world, "failure", expert, key).random() < expert.failure_rate,
    )


def _latency(expert: Expert, rng: random.Random) -> float:
    """Seconds, log-normal around the expert's median."""
    spread = NormalDist().inv_cdf(min(max(rng.random(), 1e-9), 1 - 1e-9))
    return expert.latency_s * math.exp(expert.latency_sigma * spread)


def _answer(world: World, expert: Expert, ask: Ask) -> str:
    if is_correct(world, expert, ask):
        return _worded(expert, ask, world.answer(ask)[0])
    rng = _chance(world, "error", expert, ask)
    if rng.random() < expert.admits:
        return UNKNOWN
    return _worded(expert, ask, world.wrong(ask, rng))


def _worded(expert: Expert, ask: Ask, answer: str) -> str:
    if expert.verbosity == "terse":
        return answer
    if expert.verbosity == "sentence":
        return f"it is {answer}"
    if ask.kind == "compare":
        return f"{answer} has the higher {BY_NAME[ask.relations[0]].phrasings[0]}"
    nouns = ask.entities[0]
    for relation in ask.relations:
        nouns = f"the {BY_NAME[relation].phrasings[0]} of {nouns}"
    return f"{nouns} is {answer}"


def _chance(world: World, purpose: str, expert: Expert, key: Ask | str) -> random.Random:
    return world.chance(purpose, expert.name, key if isinstance(key, str) else _canonical(world, key))


def _canonical(world: World, ask: Ask) -> str:
    """One spelling for one meaning: names instead of aliases, a comparison's entities in order."""
    names = [world.by_name[name].name for name in ask.entities]
    return " ".join([ask.kind, *ask.relations, *(names if ask.kind == "chain" else sorted(names))])
