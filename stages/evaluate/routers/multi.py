"""Prompt LLM* and KNN Router*: the base policy splits the question, each part is routed, and it merges the replies.

Router-R1 (arXiv 2506.09033), section 4: the star means that the base model splits the question, each part goes to the
candidate that the router chooses for it, and the base model answers from all replies. A policy with instructions in
prose is asked for the parts beforehand. A small one splits as it was taught, a part a turn, since a later part may need
the reply to an earlier one; the candidate in its call is replaced by the one that is chosen for the query.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from stages.evaluate.attempt import Attempt, from_episode
from stages.evaluate.own import Own
from stages.evaluate.player import Player
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.protocol import Asked
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.protocol import STOPS, CallRequest, neutralise, parse_turn, without_end_tokens
from stages.shared.episode.types import Episode, Generate, Generation, RosterEntry
from stages.shared.episode.wording import call_turn
from stages.shared.questions import Question

Choose = Callable[[str], Awaitable[tuple[RosterEntry | None, Own]]]
"""A part -> whom to ask, None for nobody, and what it took the policy to say so."""
SEARCH_START = "<search>"
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*")
_SPLIT = """\
Split the question below into the simpler questions that have to be answered for it, at most {count}. Write each on a \
line of its own, complete in itself, with nothing else. Where it is simple already, repeat it.

Question: {question}"""


def set_up_prompt_llm_multi(ground: Ground) -> Play:
    """The base policy names a candidate for each part, shown the part as a question of its own."""
    player, roster = ground.base, ground.line.roster

    async def choose(part: str) -> tuple[RosterEntry | None, Own]:
        """Whom its first turn calls."""
        prompt = chat_ids(player.tokenizer, render_prompt(part, roster, player.params.prompt, player.params.max_calls))
        turn = await player.generate(prompt, max_tokens=player.params.turn_tokens, stop=STOPS)
        action = parse_turn(player.tokenizer.decode(turn.token_ids))
        entry = roster.find(action.shown) if isinstance(action, CallRequest) else None
        return entry, ground.own(len(prompt), len(turn.token_ids))

    return _multi(ground, choose)


def set_up_knn_multi(ground: Ground) -> Play:
    """The KNN Router chooses for each part. Raises DataError where there are not enough records."""
    router = ground.knn()
    entries = {entry.name: entry for entry in ground.line.roster.entries}

    async def choose(part: str) -> tuple[RosterEntry | None, Own]:
        """Who did best on the questions nearest to the part."""
        taken = router.decide(Asked((part,), ground.encode([part])))[0].taken
        return entries[taken], Own()

    return _multi(ground, choose)


def _multi(ground: Ground, choose: Choose) -> Play:
    play_parts = _in_turn if ground.base.params.prompt == "compact" else _ahead

    async def play(question: Question) -> Attempt:
        """One question."""
        asides: list[Own] = []

        async def noted(part: str) -> RosterEntry | None:
            """Whom to ask, with what it took kept."""
            entry, own = await choose(part)
            asides.append(own)
            return entry

        found = await play_parts(ground, question, noted, asides)
        return replace(found, own=sum(asides, found.own))

    return play


Noted = Callable[[str], Awaitable[RosterEntry | None]]


async def _in_turn(ground: Ground, question: Question, choose: Noted, asides: list[Own]) -> Attempt:
    """The policy's own episode, each of its calls sent to whom the router chooses."""
    player = ground.base

    async def routed(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """A turn of the policy; where nobody is chosen, or the other name does not fit, it stays as it is."""
        turn = await player.generate(context, max_tokens=max_tokens, stop=stop)
        text = player.tokenizer.decode(turn.token_ids)
        action = parse_turn(text)
        entry = await choose(action.query) if isinstance(action, CallRequest) else None
        if entry is None or not isinstance(action, CallRequest):
            return turn
        ids = tuple(player.tokenizer.encode(with_name(text, action.shown, entry.shown)))
        return Generation(ids, None, turn.finish) if len(ids) <= max_tokens else turn

    episode = await player.run(question, ground.line.roster, routed, player.params.max_calls)
    return from_episode(question, episode, ground.tariff)


async def _ahead(ground: Ground, question: Question, choose: Noted, asides: list[Own]) -> Attempt:
    """The parts first; then an episode with a call for each, written for the policy, which answers in the end."""
    player, roster = ground.base, ground.line.roster
    prompt = chat_ids(
        player.tokenizer,
        _SPLIT.format(count=player.params.max_calls, question=neutralise(question.question)),
    )
    listed = await player.generate(prompt, max_tokens=player.params.turn_tokens, stop=())
    asides.append(ground.own(len(prompt), len(listed.token_ids)))
    parts = listed_parts(player.tokenizer.decode(listed.token_ids), player.params.max_calls) or [question.question]
    calls = [(part, entry) for part in parts if (entry := await choose(part)) is not None]
    turns = [call_turn(question.whole_topic, entry, part, "prose") for part, entry in calls]
    episode = await player.run(question, roster, _scripted(player, turns), len(turns))
    return replace(from_episode(question, episode, ground.tariff), own=_read(ground, episode, len(turns)))


def _scripted(player: Player, turns: Sequence[str]) -> Generate:
    """The turns as they stand, one after the other, then an answer of the policy's own."""
    starts: list[int] = []

    async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        """The next turn; an episode that begins anew begins with the first."""
        if starts and len(context) <= starts[0]:
            starts.clear()
        starts.append(len(context))
        if len(starts) <= len(turns):
            return Generation(tuple(player.tokenizer.encode(turns[len(starts) - 1])[:max_tokens]), None, "stop")
        return await player.must_answer(context, max_tokens=max_tokens, stop=stop)

    return generate


def _read(ground: Ground, episode: Episode, given: int) -> Own:
    """What the policy read and wrote, when the first `given` turns were written for it."""
    written = sum(len(ground.base.tokenizer.encode(turn.text)) for turn in episode.turns[given:])
    return ground.own(len(episode.prompt_ids) + len(episode.response_ids) - written, written)


def listed_parts(text: str, most: int) -> list[str]:
    """The lines of a list without bullets and numbers, made inert, at most so many."""
    lines = (_BULLET.sub("", neutralise(line)) for line in without_end_tokens(text).splitlines())
    return [line for line in lines if line][:most]


def with_name(text: str, shown: str, other: str) -> str:
    """The turn with another name in its call."""
    start = text.rfind(SEARCH_START)
    return text[:start] + text[start:].replace(shown, other, 1)
