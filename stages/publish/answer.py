"""Questions answered by a release, with nothing but what is in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.publish.calling import books, calling
from stages.publish.release import DESCRIPTORS, PARAMS, POLICY
from stages.shared.engines import Engine, Generator, on_this_cpu
from stages.shared.episode.driver import run_episode
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.protocol import neutralise
from stages.shared.episode.roster import make_roster, read_descriptors
from stages.shared.episode.types import Episode, Generate, Generation, Roster, Tokenizer
from stages.shared.errors import ConfigurationError
from stages.shared.files import read_json
from stages.shared.params import Params, parse_params
from stages.shared.pool.candidate import Candidate, Pool, Reply
from stages.shared.pool.ledger import Place
from stages.shared.pool.serving import serve
from stages.shared.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MILLIONTH = 1e-6
"""Costs of calls are counted in millionths of a dollar; this makes dollars of them."""
EXCERPT = 160
"""Characters shown of a turn that was neither a call nor an answer."""
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


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


def thoughts(text: str) -> list[str]:
    """What the policy thinks aloud in a turn, made inert, see `neutralise`."""
    return [neutralise(thought) for thought in _THOUGHT.findall(text) if thought]


def unclear(reason: str, text: str) -> str:
    """Why a turn is neither a call nor an answer, and how it begins, besides its thoughts, made inert."""
    said = " ".join(neutralise(_THOUGHT.sub("", text)).split())
    return reason + (": " if said else "") + (said if len(said) <= EXCERPT else f"{said[:EXCERPT]} …")


def rerouted(asked: Candidate, reply: Reply) -> str:
    """Who answered in whose place, in words; "" where the candidate that was asked did."""
    return "" if reply.instead is None else f"{reply.instead.name} in place of {asked.name}, "


def release_params(folder: Path) -> Params:
    """The parameters that a release was made with. Raises ConfigurationError where this version cannot read them."""
    path = folder / PARAMS
    return parse_params(read_json(path), str(path))


@dataclass(frozen=True)
class Answerer:
    """A release that is loaded: it answers any number of questions at once."""

    params: Params
    roster: Roster
    tokenizer: PreTrainedTokenizerBase
    generator: Generator
    pool: Pool

    def prompt(self, question: str) -> list[int]:
        """The token ids that open an episode. Raises ConfigurationError for a question that is too long."""
        limits = self.params.episode
        ids = chat_ids(self.tokenizer, render_prompt(question, self.roster, limits.prompt, limits.max_calls))
        if len(ids) > limits.prompt_tokens:
            raise ConfigurationError(
                f"the question makes a prompt of {len(ids)} tokens, and this release reads {limits.prompt_tokens} at "
                "most (episode.prompt_tokens); shorten it"
            )
        return ids

    async def answer(self, prompt_ids: Sequence[int], watcher: Watcher) -> Episode:
        """Play one episode, greedily."""
        generate = watched(self.generator.sampler(), self.tokenizer, watcher)
        pool = WatchedPool(self.pool, watcher)
        return await run_episode(prompt_ids, self.roster, generate, pool, self.tokenizer, self.params.episode)


@asynccontextmanager
async def load_release(
    folder: Path,
    params: Params,
    candidates: Sequence[Candidate],
    place: Place,
    rows: int = 256,
    engine: Engine = on_this_cpu,
) -> AsyncIterator[Answerer]:
    """The release in `folder` with the seen ones of `candidates`, for as long as the block runs; see `calling`.

    Its policy keeps keys and values of `rows` sequences; more questions than that wait for one another. The weights are
    read in a thread, so that whatever else the event loop does goes on. Raises ConfigurationError for a pool that
    cannot be called, TransientError for candidates that do not answer.
    """
    roster = make_roster([each for each in read_descriptors(folder / DESCRIPTORS) if each.seen])
    limits = params.episode
    async with calling(roster, params, candidates, place) as pool:
        tokens = limits.prompt_tokens + limits.response_tokens
        tokenizer, loading = await asyncio.to_thread(engine, folder / POLICY, rows, tokens)
        async with loading as generator:
            yield Answerer(params, roster, tokenizer, generator, pool)


def answer(question: str, folder: Path, workspace: Workspace, watcher: Watcher | None = None) -> Episode:
    """Answer one question, as `answer_all` does."""
    (episode,) = answer_all([question], folder, workspace, watcher)
    return episode


def refuse_empty(questions: Sequence[str]) -> None:
    """Raises ConfigurationError for a question of nothing but space."""
    if not all(question.strip() for question in questions):
        raise ConfigurationError('the question is empty; ask for example `pointsman ask "who ...?"`')


def answer_all(
    questions: Sequence[str], folder: Path, workspace: Workspace, watcher: Watcher | None = None
) -> list[Episode]:
    """Answer questions, greedily, with the release in `folder` and the seen candidates of its own pool.

    Raises ConfigurationError for an empty or too long question and for a pool that cannot be called, TransientError for
    candidates that do not answer.
    """
    refuse_empty(questions)
    params = release_params(folder)

    async def _once(candidates: Sequence[Candidate]) -> list[Episode]:
        async with load_release(folder, params, candidates, books(params, workspace, "ask")) as loaded:
            prompts = [loaded.prompt(question) for question in questions]
            return await asyncio.gather(*(loaded.answer(prompt, watcher or Nobody()) for prompt in prompts))

    with serve(params.pool, params.world, workspace.state) as candidates:
        return asyncio.run(_once(candidates))
