"""CoT: the base policy alone, which thinks before it answers.

Wei et al., Chain-of-Thought Prompting Elicits Reasoning in Large Language Models (NeurIPS 2022, arXiv 2201.11903), as
Router-R1 takes it for a baseline: as Direct, but the turn is opened with `<think>`, and only then with `<answer>`.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.evaluate.attempt import Attempt, from_episode
from stages.evaluate.player import ANSWER, Player
from stages.evaluate.routers.ground import Ground, Play
from stages.shared.episode.protocol import neutralise, without_end_tokens
from stages.shared.episode.types import Generation
from stages.shared.questions import Question

THINK, THOUGHT = "<think>", "</think>"


def set_up_cot(ground: Ground) -> Play:
    """Of the base policy; no candidate is called."""

    async def play(question: Question) -> Attempt:
        """One question."""
        player = ground.base

        async def thinking(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
            """A thought that calls nobody, in at most half of the turn, then the answer."""
            opening = await thought(player, context, max_tokens // 2)
            rest = await player.generate((*context, *opening), max_tokens=max(1, max_tokens - len(opening)), stop=stop)
            return Generation((*opening, *rest.token_ids), None, rest.finish)

        episode = await player.run(question, ground.line.roster, thinking, max_calls=0)
        return from_episode(question, episode, ground.tariff)

    return play


async def thought(player: Player, context: Sequence[int], room: int) -> tuple[int, ...]:
    """At most `room` token ids: a closed thought and the opened answer; what looks like a call in it is made inert."""
    encode = player.tokenizer.encode
    free = await player.generate((*context, *encode(THINK)), max_tokens=room, stop=(THOUGHT,))
    written = without_end_tokens(player.tokenizer.decode(free.token_ids)).removesuffix(THOUGHT)
    closing = encode(f" {THOUGHT} {ANSWER}")
    return *encode(f"{THINK} {neutralise(written)}")[: max(0, room - len(closing))], *closing
