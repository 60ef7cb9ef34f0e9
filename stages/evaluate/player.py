"""A policy at play: whole episodes, or episodes whose turns are opened or written for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import ChatTokenizer, chat_ids, render_prompt
from stages.shared.episode.protocol import Answer, parse_turn
from stages.shared.episode.types import Episode, Generate, Generation, Roster, RosterEntry, Tokenizer
from stages.shared.episode.wording import call_turn
from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import EpisodeParams, Params
from stages.shared.pool.candidate import Pool
from stages.shared.questions import Question

ANSWER = "<answer>"
REPLAYS = 3
ROWS = 256
"""Sequences that a policy continues at once; others wait."""


class PolicyTokenizer(Tokenizer, ChatTokenizer, Protocol):
    """What a player needs of a transformers tokenizer."""


@dataclass(frozen=True)
class Player:
    """A policy, greedy, with the limits of its episodes and the pool that answers it."""

    generate: Generate
    tokenizer: PolicyTokenizer
    params: EpisodeParams
    pool: Pool

    async def play(self, question: Question, roster: Roster, max_calls: int | None = None) -> Episode:
        """One free episode of at most so many calls. Raises TransientError when the pool fails it each time."""
        return await self.run(question, roster, self.generate, max_calls or self.params.max_calls)

    async def answer_alone(self, question: Question, roster: Roster) -> Episode:
        """The policy's turn is opened with `<answer>`: it can only answer, from what it knows."""
        return await self.run(question, roster, self.opened, max_calls=0)

    async def answer_with(self, question: Question, candidate: str, roster: Roster) -> Episode:
        """The question goes to one candidate as it stands, and the policy answers from the reply.

        The first turn is written for the policy, as it was taught to write one: it is to answer from what it is used
        to. Then it writes freely; a turn that does not answer is written again, opened with `<answer>`.
        """
        entry = next(entry for entry in roster.entries if entry.name == candidate)
        turn = call_turn(shown_topic(question, entry), entry, question.question, self.params.prompt)
        call = tuple(self.tokenizer.encode(turn))
        start = len(self._prompt(question, roster))

        async def scripted(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
            """The call as the first turn, then the policy's answer."""
            if len(context) == start and len(call) > max_tokens:
                raise ConfigurationError(
                    f"{question.dataset} question {question.id} takes {len(call)} tokens to pass on, "
                    f"episode.turn_tokens allows {max_tokens}; raise it"
                )
            if len(context) == start:
                return Generation(call, None, "stop")
            return await self.must_answer(context, max_tokens=max_tokens, stop=stop)

        return await self.run(question, roster, scripted, max_calls=1)

    def _prompt(self, question: Question, roster: Roster) -> list[int]:
        message = render_prompt(question.question, roster, self.params.prompt, self.params.max_calls)
        return chat_ids(self.tokenizer, message)

    async def run(
        self, question: Question, roster: Roster, generate: Generate, max_calls: int,
        prompt: Sequence[int] | None = None,
    ) -> Episode:  # fmt: skip
        """One episode whose turns come from `generate`; `prompt` stands for that which shows the roster.

        Raises TransientError when the pool fails it each time.
        """
        prompt = self._prompt(question, roster) if prompt is None else prompt
        params = self.params.model_copy(update={"max_calls": max_calls})
        for _ in range(REPLAYS):
            episode = await run_episode(prompt, roster, generate, self.pool, self.tokenizer, params)
            if episode.ending != "infrastructure":
                return episode
        failed = sorted(
            {f"{call.name} ({call.reply.outcome})" for call in episode.calls if call.reply.outcome.is_failure}
        )
        raise TransientError(
            f"no reply to {question.dataset} question {question.id} from {', '.join(failed)} in {REPLAYS} episodes; "
            "a dropped question would bend the result, so run the stage again when the candidate answers"
        )

    async def must_answer(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """The policy writes freely; a turn that does not answer is written again, opened with `<answer>`."""
        free = await self.generate(context, max_tokens=max_tokens, stop=stop)
        if isinstance(parse_turn(self.tokenizer.decode(free.token_ids)), Answer):
            return free
        return await self.opened(context, max_tokens=max_tokens, stop=stop)

    async def opened(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """A turn that begins with `<answer>`."""
        opening = tuple(self.tokenizer.encode(ANSWER))
        rest = await self.generate((*context, *opening), max_tokens=max(1, max_tokens - len(opening)), stop=stop)
        return Generation((*opening, *rest.token_ids), None, rest.finish)


async def load_players(stack: AsyncExitStack, train: Path, params: Params, pool: Pool) -> tuple[Player, Player]:
    """The trained policy and the one before PPO, from the folder of the train stage; `stack` ends their generators."""
    return await _load(stack, train / "policy", params, pool), await _load(stack, train / "warm_start", params, pool)


async def _load(stack: AsyncExitStack, folder: Path, params: Params, pool: Pool) -> Player:
    from stages.shared.engines import engine_of

    room = params.episode.prompt_tokens + params.episode.response_tokens
    tokenizer, engine = engine_of(params)(folder, ROWS, room)
    generator = await stack.enter_async_context(engine)
    return Player(generator.sampler(), tokenizer, params.episode, pool)


def shown_topic(question: Question, entry: RosterEntry) -> str:
    """The question's topic or, where the candidate was not measured on that, the topic that it is best at."""
    skill = entry.descriptor.skill
    if question.whole_topic in skill or not skill:
        return question.whole_topic
    return max(skill, key=lambda topic: skill[topic].em)


def redirect(roster: Roster, candidate: str) -> Roster:
    """The same prompt, but every call is answered by one candidate."""
    return Roster(tuple(replace(entry, name=candidate) for entry in roster.entries))
