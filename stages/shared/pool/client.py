"""Candidates over HTTP: OpenAI chat completions, with limits, retries, a ledger and typed outcomes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import stamina

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import PoolLimits
from stages.shared.pool.attempt import Attempt, again, completion, refusal
from stages.shared.pool.breaker import Breaker
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.endpoint import where
from stages.shared.pool.flight import SingleFlight
from stages.shared.pool.instruction import candidate_message
from stages.shared.pool.ledger import Hold, Ledger
from stages.shared.pool.money import tariff
from stages.shared.pool.pace import Pace
from stages.shared.pool.rate import Rate, turn
from stages.shared.pool.wire import LONGEST_BODY, BrokenError, UnreachedError, Wire

if TYPE_CHECKING:
    from stages.shared.pool.http2 import Http2Wire

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
_LOG = logging.getLogger(__name__)
stamina.instrumentation.set_on_retry_hooks(())  # the ledger has every attempt; a line for each says nothing more


@dataclass(frozen=True)
class Line:
    """What calls to one candidate go through, one after the other."""

    candidate: Candidate
    breaker: Breaker
    share: asyncio.Semaphore
    """The places that one candidate may take."""
    pace: Pace
    """Of its provider."""
    rates: tuple[Rate, ...]
    """Its own and its provider's, where these are limited."""
    request: tuple[bytes, bytes]
    """What is sent before and after the question."""

    def learn(self, attempt: Attempt, began: float) -> None:
        """Ask less after a refusal of an attempt that was begun at `began` (time.monotonic), more after an answer."""
        if attempt.reply.outcome is Outcome.RATE_LIMITED:
            self.pace.limited(began, min(attempt.wait_s or 0.0, _LONGEST_PAUSE_S))
            for rate in self.rates:
                rate.limited(began)
        elif not attempt.reply.outcome.is_failure:
            self.pace.answered()
            for rate in self.rates:
                rate.answered()


@dataclass(slots=True)
class Call:
    """One question to one candidate, on its way."""

    line: Line
    body: bytes
    key: str
    """What is asked, digested; the same for the same question."""
    id: str = field(default_factory=lambda: os.urandom(16).hex())
    """What the provider is told to know the call by."""
    unsure: bool = False
    """Whether it may have charged under that id for an answer that never arrived."""
    deadline: float = 0.0
    """On the clock of time.monotonic; set when the first attempt begins."""
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def count(self, reply: Reply) -> Reply:
        """The reply of one more attempt, with what all of them took."""
        self.attempts += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if self.attempts == 1:
            return reply
        return replace(
            reply,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            attempts=self.attempts,
        )

    def know(self, attempt: Attempt) -> None:
        """Be known by another id, unless an attempt under this one may have been charged without an answer."""
        charged = attempt.reply.prompt_tokens or attempt.reply.completion_tokens
        self.unsure = (self.unsure or not attempt.certain) and not charged
        if not self.unsure:
            self.id = os.urandom(16).hex()

    def gave_up(self, outcome: Outcome, detail: str) -> Reply:
        """The failure that a call is which may not try again."""
        return Reply("", outcome, self.prompt_tokens, self.completion_tokens, attempts=self.attempts, detail=detail)

    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()


class AgainError(Exception):
    """An attempt failed, and another may do better."""

    def __init__(self, attempt: Attempt, reply: Reply) -> None:
        super().__init__(reply.detail)
        self.attempt = attempt
        self.reply = reply
        """Of all attempts so far."""


class HttpPool:
    """A `Pool` whose candidates answer on OpenAI-compatible endpoints; belongs to the event loop that first uses it.

    Each attempt holds one of `limits.concurrency` places, of which one candidate may take half, so that a slow one
    does not hold up the others. Nobody holds a place while waiting to try again. With a ledger, no call is made that is
    not in it, and none that it has the answer to; asked at temperature 0, the same question is under way only once.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        limits: PoolLimits,
        ledger: Ledger | None = None,
        *,
        once: bool = False,
        replaceable: Collection[str] = (),
    ) -> None:
        """`once`: no question is asked twice, so that an answer in the ledger is the answer at any temperature.

        `replaceable`: candidates for whom nobody waits while they are down. Raises ConfigurationError for a candidate
        whose price is unknown.
        """
        self._candidates = {candidate.name: candidate for candidate in candidates}
        self._tariffs = {candidate.name: tariff(candidate) for candidate in candidates}
        self._limits, self._ledger = limits, ledger
        self._draws = limits.temperature > 0 and not once
        self._places = asyncio.Semaphore(limits.concurrency)
        share = limits.concurrency if len(candidates) == 1 else max(1, limits.concurrency // 2)
        providers = {(item.base_url, item.key_env): Pace(limits.concurrency) for item in candidates}
        rates = {provider: _rates(limits) for provider in providers}
        self._replaceable = frozenset(replaceable)
        self._lines = {
            item.name: Line(
                item,
                Breaker(0.0 if item.name in self._replaceable else limits.deadline_s),
                asyncio.Semaphore(item.concurrency or share),
                providers[item.base_url, item.key_env],
                (*_rates(item), *rates[item.base_url, item.key_env]),
                _request(item, limits),
            )
            for item in candidates
        }
        self._flights = SingleFlight()
        self._wire, self._http2 = Wire(candidates), _http2(candidates)

    async def __aenter__(self) -> HttpPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. The pool may be used again after."""
        await self._wire.close()
        if self._http2 is not None:
            await self._http2.close()

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self._candidates

    async def ask(self, name: str, query: str) -> Reply:
        """Ask one candidate; what the network or the provider did wrong is in the outcome, and in the log.

        Tokens are summed over every attempt that reported some. Raises ConfigurationError on a name it does not have,
        BudgetError when the ledger has no money left for the call.
        """
        line = self._lines.get(name)
        if line is None:
            raise ConfigurationError(
                f"the pool has no candidate {name!r}; it has {', '.join(sorted(self._candidates))}"
            )
        before, after = line.request
        body = before + json.dumps(candidate_message(query)).encode() + after
        call = Call(line, body, hashlib.sha256(name.encode() + b"\n" + body).hexdigest()[:32])
        if self._draws:
            return await self._make(call)
        if self._ledger is not None:
            if (known := self._ledger.answer(call.key)) is not None:
                return known
            if (left := self._ledger.key(call.key)) is not None:
                call.id, call.unsure = left, True
        return await self._flights.share(call.key, partial(self._make, call))

    def is_down(self, name: str) -> bool:
        """Whether a candidate failed so often that it is left alone for now."""
        return self._lines[name].breaker.rests

    def most(self, name: str, length: int) -> int:
        """What a call with a question of so many bytes may cost, picos."""
        return self._tariffs[name].most(length, self._candidates[name].max_tokens or self._limits.max_tokens)

    async def check(self) -> None:
        """See that every endpoint answers and every key is there and taken, before anything is paid for.

        Raises ConfigurationError on a missing or refused key and on an impossible address, TransientError on an
        endpoint that does not answer and has a candidate that nobody may replace.
        """
        known = sorted(self._candidates.values(), key=lambda item: item.name not in self._replaceable)
        endpoints = {(item.base_url, item.key_env): item for item in known}
        await asyncio.gather(*(self._check(candidate) for candidate in endpoints.values()))

    async def _make(self, call: Call) -> Reply:
        reply = await self._try(call)
        if reply.outcome.is_failure:
            name = call.line.candidate.name
            _LOG.warning("%s: %s after %d attempts: %s", name, reply.outcome, reply.attempts, reply.detail)
        return reply

    async def _try(self, call: Call) -> Reply:
        """All attempts. The first has no part in the retry layer, which takes a fifth of a call's time."""
        began, failed = time.monotonic(), list[AgainError]()
        try:
            return await self._once(call)
        except AgainError as error:
            failed.append(error)
        try:
            async for attempt in stamina.retry_context(
                on=partial(self._pause, call), attempts=self._limits.attempts, timeout=None
            ):
                with attempt:
                    if failed:
                        raise failed.pop()
                    return await self._once(call)
            raise AssertionError("unreachable")
        except AgainError as error:
            call.line.breaker.failed(began)
            return error.reply

    async def _once(self, call: Call) -> Reply:
        """One attempt, once the breaker lets it be made. Raises AgainError where another may do better."""
        if not await call.line.breaker.enter():
            return call.gave_up(Outcome.UNREACHABLE, f"{call.line.candidate.name} has been down for long")
        attempt, reply = await self._placed(call)
        if attempt.again:
            raise AgainError(attempt, reply)
        if not reply.outcome.is_failure:
            call.line.breaker.answered()
        return reply

    def _pause(self, call: Call, error: Exception) -> float | bool:
        """Seconds until another attempt; False where none is to be made, as when there is no time for it."""
        if not isinstance(error, AgainError):
            return False
        pause_s = _pause_s(call.attempts, error.attempt.wait_s)
        if pause_s >= call.left_s():
            return False
        call.know(error.attempt)
        return pause_s

    async def _placed(self, call: Call) -> tuple[Attempt, Reply]:
        """One attempt in a place of its own, written down before and after; and the reply of all attempts so far.

        What a call waits for its place does not count towards its deadline: who tries again stands behind all others.
        """
        line, queued = call.line, time.monotonic()
        async with line.share, line.pace, turn(line.rates, self._places) if line.rates else self._places as used:
            began = time.monotonic()
            call.deadline = (call.deadline or queued + self._limits.deadline_s) + began - queued
            async with self._held(call) as hold:
                attempt = await self._attempt(call)
                reply = call.count(attempt.reply)
                if hold is not None:
                    hold.settle(attempt, reply)
            if used is not None and attempt.certain:
                used(attempt.reply.prompt_tokens + attempt.reply.completion_tokens)
        line.learn(attempt, began)
        return attempt, reply

    def _held(self, call: Call) -> AbstractAsyncContextManager[Hold | None]:
        if self._ledger is None:
            return nullcontext()
        name = call.line.candidate.name
        return self._ledger.attempt(name, call.key, call.id, self.most(name, len(call.body)), self._tariffs[name])

    async def _attempt(self, call: Call) -> Attempt:
        began = time.perf_counter()
        candidate = call.line.candidate
        patience_s = min(candidate.timeout_s or self._limits.timeout_s, max(0.01, call.left_s()))
        try:
            attempt = await self._post(call, patience_s)
        except TimeoutError:
            attempt = again(Outcome.TIMED_OUT, f"no reply within {patience_s:.3g} s", certain=False)
        except ConfigurationError as error:
            attempt = refusal(Outcome.UNREACHABLE, str(error))
        except (UnreachedError, BrokenError) as error:
            certain = isinstance(error, UnreachedError)
            attempt = again(Outcome.UNREACHABLE, f"{where(candidate)}: {error}", certain=certain)
        if attempt.reply.latency_s:
            return attempt
        return replace(attempt, reply=replace(attempt.reply, latency_s=time.perf_counter() - began))

    async def _post(self, call: Call, patience_s: float) -> Attempt:
        candidate = call.line.candidate
        began, own = time.perf_counter(), self._http2
        wire = self._wire if own is None or not own.speaks(candidate) else own
        response = await wire.post(candidate, call.body, call.id, patience_s)
        if response.body is None:
            return refusal(Outcome.MALFORMED, f"a response of more than {LONGEST_BODY} bytes", certain=False)
        took_s = time.perf_counter() - began
        return completion(response.status, response.headers, response.body, candidate, took_s)

    async def _check(self, candidate: Candidate) -> None:
        place, wait_s = where(candidate), 0.0
        for number in range(1, self._limits.attempts + 1):
            await asyncio.sleep(wait_s)
            status, problem = await self._probe(candidate)
            if status in (401, 403):
                key = f"the key in {candidate.key_env}" if candidate.key_env else "a call without a key (no key_env)"
                raise ConfigurationError(f"{candidate.name}: {place} refuses {key} ({problem}); give a valid one")
            if status is not None and 300 <= status < 400:
                raise ConfigurationError(f"{candidate.name}: {place} redirects ({problem}); write where to as base_url")
            if status is not None and status != 429 and status < 500:
                return
            wait_s = _pause_s(number, None)
        told = f"{candidate.name}: {place} does not answer ({problem}); see that it is up"
        if candidate.name not in self._replaceable:
            raise TransientError(f"{told}, then try again")
        _LOG.warning("%s: others answer in its place", told)

    async def _probe(self, candidate: Candidate) -> tuple[int | None, str]:
        """Status of the list of models, None where none came, and the same in words. A 404 is an answer too."""
        try:
            response = await self._wire.models(candidate, self._limits.timeout_s, longest=0)
        except TimeoutError:
            return None, f"nothing within {self._limits.timeout_s:g} s"
        except ConnectionError as error:
            return None, str(error)
        return response.status, f"HTTP {response.status}"


def _rates(limits: PoolLimits | Candidate) -> tuple[Rate, ...]:
    """None where nothing is limited."""
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    return (Rate(requests, tokens),) if requests or tokens else ()


def _http2(candidates: Sequence[Candidate]) -> Http2Wire | None:
    """Loaded for those who want it only: it takes a fifth of a second."""
    if not any(item.http2 for item in candidates):
        return None
    from stages.shared.pool.http2 import Http2Wire

    return Http2Wire(candidates)


def _request(candidate: Candidate, limits: PoolLimits) -> tuple[bytes, bytes]:
    """The body of a request, but for the question, which is a JSON string between the two parts."""
    system = [{"role": "system", "content": candidate.system}] if candidate.system else []
    after = {"temperature": limits.temperature, "top_p": 1.0, "seed": limits.seed}
    after |= {"max_tokens": candidate.max_tokens or limits.max_tokens, **dict(candidate.parameters)}
    head = json.dumps({"model": candidate.model, "messages": [*system, {"role": "user", "content": ""}]})
    return head.removesuffix('""}]}').encode(), f"}}], {json.dumps(after)[1:]}".encode()


def _pause_s(number: int, asked_s: float | None) -> float:
    """Seconds before the next attempt: what the provider asks for, else doubling with jitter; bounded either way."""
    own = _FIRST_PAUSE_S * 2 ** (number - 1) * random.uniform(0.5, 1.5)
    return min(own if asked_s is None else asked_s, _LONGEST_PAUSE_S)
