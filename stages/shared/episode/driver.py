"""One episode, from prompt to answer: token ids in, token ids out, whoever generates and whoever is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from stages.shared.episode.protocol import (
    CORRECTION,
    LAST_STOPS,
    STOPS,
    UNAVAILABLE,
    Action,
    Answer,
    CallRequest,
    faults,
    neutralise,
    observation,
    parse_turn,
)
from stages.shared.episode.types import Call, Episode, Generate, Generation, Roster, RosterEntry, Tokenizer, Turn
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.params import EpisodeParams
from stages.shared.pool.candidate import Pool, Reply

_NO_TEXT = "no answer"
_LONGEST_TOKEN = 64
"""Characters of reply a token is credited with at most, before any is counted: bounds the work on a huge reply."""

Ending = Literal["answered", "out-of-turns", "out-of-room", "infrastructure"]


async def run_episode(
    prompt_ids: Sequence[int],
    roster: Roster,
    generate: Generate,
    pool: Pool,
    tokenizer: Tokenizer,
    params: EpisodeParams,
) -> Episode:
    """Generate, parse, call, append, until an answer, the last turn or the end of the room (paper, section 3.1).

    At most `max_calls` routed turns and one last generation; the response never exceeds `response_tokens`. What the
    policy wrote is never encoded again. The ending is `infrastructure` whenever a call failed, answer or not.

    Raises ConfigurationError when the prompt is too long or the roster names a candidate that the pool lacks, and
    PipelineError when `generate` breaks its contract.
    """
    _check(prompt_ids, roster, pool, params)
    episode = _Running(tuple(prompt_ids), roster, pool, tokenizer, params)
    while (ending := await _turn(episode, generate)) is None:
        pass
    return episode.finished(ending)


def _check(prompt_ids: Sequence[int], roster: Roster, pool: Pool, params: EpisodeParams) -> None:
    if len(prompt_ids) > params.prompt_tokens:
        raise ConfigurationError(
            f"the prompt has {len(prompt_ids)} tokens, episode.prompt_tokens allows {params.prompt_tokens}; "
            "raise it, shorten the question or show fewer candidates"
        )
    missing = sorted({entry.name for entry in roster.entries} - set(pool.candidates))
    if missing:
        raise ConfigurationError(
            f"the roster names {', '.join(missing)}, which the pool lacks; run the profile stage again"
        )


@dataclass
class _Running:
    """An episode under way."""

    prompt_ids: tuple[int, ...]
    roster: Roster
    pool: Pool
    tokenizer: Tokenizer
    params: EpisodeParams
    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    log_probs: list[float] | None = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None

    @property
    def room(self) -> int:
        """Response tokens left."""
        return self.params.response_tokens - len(self.ids)

    @property
    def kept_room(self) -> int:
        """Tokens that no observation may take, so that the policy can always go on to an answer."""
        return max(1, min(self.params.turn_tokens, self.params.response_tokens // 8))

    @property
    def is_last(self) -> bool:
        """Whether the coming generation is the one without routing."""
        return len(self.turns) >= self.params.max_calls

    def wrote(self, generation: Generation) -> None:
        """Append what the policy generated."""
        self.ids += generation.token_ids
        self.mask += [1] * len(generation.token_ids)
        if generation.log_probs is None:
            self.log_probs = None
        elif self.log_probs is not None:
            self.log_probs += generation.log_probs

    def observed(self, ids: Sequence[int]) -> None:
        """Append an observation, which the policy did not write."""
        self.ids += ids
        self.mask += [0] * len(ids)
        if self.log_probs is not None:
            self.log_probs += [0.0] * len(ids)

    def fit(self, text: str, limit: int) -> tuple[str, list[int]] | None:
        """The longest beginning of `text`, at most `limit` tokens, whose whole observation fits into the room left.

        Returns the observation as text and as token ids; None when not even an empty one fits.
        """
        text = text[: limit * _LONGEST_TOKEN]

        def fitting(length: int) -> tuple[str, list[int]] | None:
            """The observation of the first `length` characters, where that fits."""
            block = observation(text[:length])
            ids = self.tokenizer.encode(block, add_special_tokens=False)
            fits = len(ids) <= self.room - self.kept_room
            return (block, ids) if fits and self._count(text[:length]) <= limit else None

        best, low, high = fitting(len(text)), 0, len(text)
        if best is not None:
            return best
        best = fitting(0)
        while best is not None and high - low > 1:
            middle = (low + high) // 2
            found = fitting(middle)
            low, high, best = (middle, high, found) if found else (low, middle, best)
        return best

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def finished(self, ending: Ending) -> Episode:
        """The episode as a value, its format judged."""
        texts = [turn.text for turn in self.turns]
        failed = any(turn.call is not None and turn.call.reply.outcome.is_failure for turn in self.turns)
        return Episode(
            prompt_ids=self.prompt_ids,
            response_ids=tuple(self.ids),
            response_mask=tuple(self.mask),
            log_probs=None if self.log_probs is None else tuple(self.log_probs),
            turns=tuple(self.turns),
            answer=self.answer,
            faults=faults(texts, self.roster, self.params.max_calls),
            ending="infrastructure" if failed else ending,
        )


async def _turn(episode: _Running, generate: Generate) -> Ending | None:
    """One generation and what follows from it; the ending, or None when the episode goes on."""
    is_last = episode.is_last
    text = await _generate(episode, generate, LAST_STOPS if is_last else STOPS)
    action = parse_turn(text)
    if isinstance(action, Answer):
        episode.answer = action.text
        episode.turns.append(Turn(text, ""))
        return "answered"
    if is_last:
        episode.turns.append(Turn(text, ""))
        return "out-of-turns" if episode.room > 0 else "out-of-room"
    return await _respond(episode, text, action)


async def _generate(episode: _Running, generate: Generate, stop: Sequence[str]) -> str:
    allowed = min(episode.params.turn_tokens, episode.room)
    written = await generate((*episode.prompt_ids, *episode.ids), max_tokens=allowed, stop=stop)
    if len(written.token_ids) > allowed:
        raise PipelineError(f"the generator wrote {len(written.token_ids)} tokens where {allowed} were allowed")
    if written.log_probs is not None and len(written.log_probs) != len(written.token_ids):
        raise PipelineError(
            f"the generator gave {len(written.log_probs)} log-probabilities for {len(written.token_ids)} tokens"
        )
    episode.wrote(written)
    return episode.tokenizer.decode(list(written.token_ids), skip_special_tokens=False)


async def _respond(episode: _Running, text: str, action: Action) -> Ending | None:
    """Observe the reply to a valid call, or a correction. A call whose reply would have no room is not made."""
    entry = episode.roster.find(action.shown) if isinstance(action, CallRequest) else None
    limit = episode.params.reply_tokens
    if episode.fit(CORRECTION if entry is None else "", limit) is None:
        episode.turns.append(Turn(text, ""))
        return "out-of-room"
    call, shown = None, CORRECTION
    if entry is not None and isinstance(action, CallRequest):
        call = await _ask(episode.pool, entry, action.query)
        shown = _shown(call.reply, limit)
    block, ids = episode.fit(shown, limit) or ("", [])
    episode.observed(ids)
    episode.turns.append(Turn(text, block, call))
    return None


async def _ask(pool: Pool, entry: RosterEntry, query: str) -> Call:
    reply = await pool.ask(entry.name, query)
    candidate = pool.candidates[entry.name]
    return Call(entry.shown, entry.name, query, reply, reply.cost(candidate), reply.cost_total(candidate))


def _shown(reply: Reply, limit: int) -> str:
    """What the policy sees of a reply. Its raw text is cut first, so that a huge one costs little."""
    if reply.outcome.is_failure:
        return UNAVAILABLE
    return neutralise(reply.text[: 4 * limit * _LONGEST_TOKEN]) or _NO_TEXT
