"""A question answered by a release, with nothing but what is in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stages.publish.release import DESCRIPTORS, PARAMS, POLICY
from stages.shared.entry import Workspace
from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import make_roster, read_descriptors
from stages.shared.episode.types import Episode, Generate, Generation, Roster, Tokenizer
from stages.shared.errors import ConfigurationError
from stages.shared.params import Params, parse_params
from stages.shared.pool.candidate import Candidate, Pool, Reply
from stages.shared.pool.client import HttpPool
from stages.shared.pool.serving import serve


class Watcher(Protocol):
    """Hears of an episode while it unfolds."""

    def wrote(self, text: str) -> None:
        """The policy finished a turn."""
        ...

    def replied(self, candidate: Candidate, reply: Reply) -> None:
        """A candidate was asked, and this came back."""
        ...


class Nobody:
    """A watcher that does not look."""

    def wrote(self, text: str) -> None:
        """Nothing."""

    def replied(self, candidate: Candidate, reply: Reply) -> None:
        """Nothing."""


@dataclass(frozen=True)
class WatchedPool:
    """A pool whose replies a watcher hears."""

    pool: Pool
    watcher: Watcher

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self.pool.candidates

    async def ask(self, name: str, query: str) -> Reply:
        """Ask one candidate."""
        reply = await self.pool.ask(name, query)
        self.watcher.replied(self.pool.candidates[name], reply)
        return reply


def watched(generate: Generate, tokenizer: Tokenizer, watcher: Watcher) -> Generate:
    """A policy whose turns a watcher hears."""

    async def _tell(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        generation = await generate(context, max_tokens=max_tokens, stop=stop)
        watcher.wrote(tokenizer.decode(list(generation.token_ids), skip_special_tokens=False))
        return generation

    return _tell


def release_params(folder: Path) -> Params:
    """The parameters that a release was made with. Raises ConfigurationError where this version cannot read them."""
    path = folder / PARAMS
    return parse_params(json.loads(path.read_text(encoding="utf-8")), str(path))


def answer(question: str, folder: Path, workspace: Workspace, watcher: Watcher | None = None) -> Episode:
    """Answer one question, greedily, with the release in `folder` and the seen candidates of its own pool.

    Raises ConfigurationError for an empty or too long question and for a pool that cannot be called, TransientError for
    candidates that do not answer.
    """
    if not question.strip():
        raise ConfigurationError('the question is empty; ask for example `pointsman ask "who ...?"`')
    params = release_params(folder)
    roster = make_roster([each for each in read_descriptors(folder / DESCRIPTORS) if each.seen])
    with serve(params.pool, params.world, workspace.state) as candidates:
        return asyncio.run(_play(question, folder, params, roster, candidates, watcher or Nobody()))


async def _play(
    question: str, folder: Path, params: Params, roster: Roster, candidates: Sequence[Candidate], watcher: Watcher
) -> Episode:
    from transformers.utils.logging import disable_progress_bar

    from stages.shared.batching import BatchedGenerator
    from stages.shared.policy import load_policy, load_tokenizer

    disable_progress_bar()
    shown = {entry.name for entry in roster.entries}
    async with HttpPool([each for each in candidates if each.name in shown], params.pool.limits) as pool:
        await pool.check()
        tokenizer, model = load_tokenizer(folder / POLICY), load_policy(folder / POLICY)
        message = render_prompt(question, roster, params.episode.prompt, params.episode.max_calls)
        async with BatchedGenerator(model, tokenizer) as generator:
            generate = watched(generator.sampler(), tokenizer, watcher)
            ids = chat_ids(tokenizer, message)
            return await run_episode(ids, roster, generate, WatchedPool(pool, watcher), tokenizer, params.episode)
