"""One question, from the wait for a place to the last token: limits, release, episode, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from stages.publish.answer import MILLIONTH
from stages.publish.serving.budget import Budget, Tab
from stages.publish.serving.chat import TOO_LONG, Chat
from stages.publish.serving.follower import Follower
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.places import Places
from stages.publish.serving.rate import Rate
from stages.publish.serving.refusal import Refusal, invalid
from stages.publish.serving.served import Served
from stages.publish.serving.unfolding import Begun, Ended, Step, Unfolding, reply_step, turn_steps
from stages.shared.episode.types import Episode
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.pool.candidate import Candidate, Reply


@dataclass(frozen=True)
class House:
    """What questions share: the release, the limits, the counts."""

    follower: Follower
    rate: Rate
    places: Places
    budget: Budget
    metrics: Metrics


@dataclass
class Reporter:
    """Hears of an episode: passes every step on, counts, and writes up what it costs."""

    metrics: Metrics
    tab: Tab
    names: frozenset[str]
    steps: asyncio.Queue[Step | None] = field(default_factory=asyncio.Queue)
    calling: bool = False

    def wrote(self, text: str) -> None:
        """The policy finished a turn."""
        for step in turn_steps(text):
            self.steps.put_nowait(step)
            self.calling = step.detail["kind"] == "call" and step.detail["candidate"] in self.names

    def replied(self, candidate: Candidate, reply: Reply) -> None:
        """A candidate was asked, and this came back."""
        self.calling = False
        self.tab.spent += reply.cost_total(candidate) * MILLIONTH
        self.metrics.called(candidate, reply)
        self.steps.put_nowait(reply_step(candidate, reply))


async def converse(chat: Chat, house: House) -> AsyncGenerator[Unfolding, None]:
    """Answer one question: `Begun`, the steps as they happen, `Ended`. Closing the iterator cancels the episode.

    What was held is let go, and the budget settled, before `Ended`: whoever waits for more than that may be gone.
    Raises Refusal: before `Begun` for a question that is not taken up, after it for one that broke down.
    """
    house.rate.take()
    async with AsyncExitStack() as stack:
        house.metrics.waiting.inc()
        try:
            await stack.enter_async_context(house.places.place())
        finally:
            house.metrics.waiting.dec()
        served = stack.enter_context(house.follower.lease())
        prompt_ids = _prompt(chat, served, house.follower.channel)
        tab = await stack.enter_async_context(house.budget.reserve(served.most))
        stack.enter_context(house.metrics.in_flight.track_inprogress())
        digest = served.digest
        yield Begun(digest)
        reporter = Reporter(house.metrics, tab, frozenset(each.shown for each in served.answerer.roster.entries))
        episode = asyncio.ensure_future(served.answerer.answer(prompt_ids, reporter))
        stack.push_async_callback(_settle, episode, reporter, served.most_a_call)
        episode.add_done_callback(lambda _: reporter.steps.put_nowait(None))
        while (step := await reporter.steps.get()) is not None:
            yield step
        result = _result(episode, house.metrics)
    yield Ended(digest, result)


def _prompt(chat: Chat, served: Served, channel: str) -> list[int]:
    if chat.model not in (channel, served.digest):
        said = f"no model is called {chat.model!r} here; there is {channel!r}, see /v1/models"
        raise Refusal(404, "invalid", said, param="model", code="model_not_found")
    try:
        return served.answerer.prompt(chat.question)
    except ConfigurationError as error:
        raise invalid(str(error), "messages", TOO_LONG) from error


def _result(done: asyncio.Task[Episode], metrics: Metrics) -> Episode:
    """The episode. Raises Refusal where it broke down, or where candidates failed and no answer came of it."""
    if isinstance(error := done.exception(), BudgetError):
        raise Refusal(429, "over-budget", str(error), code="insufficient_quota") from error
    if error is not None:
        raise Refusal(500, "error", "the episode broke down; the server's log says how") from error
    episode = done.result()
    metrics.ended(episode)
    if episode.answer is None and episode.ending == "infrastructure":
        failed = [f"{call.name} {call.reply.outcome}" for call in episode.calls if call.reply.outcome.is_failure]
        message = f"no answer, since candidates failed ({', '.join(failed)}); ask again"
        raise Refusal(503, "infrastructure", message, retry_after_s=1)
    return episode


async def _settle(episode: asyncio.Task[Episode], reporter: Reporter, most_a_call: float) -> None:
    """End the episode; a call that was under way then may still be billed, and counts as dear as it can be."""
    if not episode.done():
        episode.cancel()
        await asyncio.gather(episode, return_exceptions=True)
        reporter.tab.spent += most_a_call * reporter.calling
