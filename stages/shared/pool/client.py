"""Candidates over HTTP: OpenAI chat completions, with limits, retries and typed outcomes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType

import aiohttp

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import PoolLimits
from stages.shared.pool.attempt import Attempt, again, completion, refusal
from stages.shared.pool.candidate import Candidate, Outcome, Reply
from stages.shared.pool.endpoint import authorization, proxy_for, url, where
from stages.shared.pool.instruction import candidate_message

_LONGEST_BODY = 1 << 20
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
_LOG = logging.getLogger(__name__)


class HttpPool:
    """A `Pool` whose candidates answer on OpenAI-compatible endpoints; belongs to the event loop that first uses it.

    Each attempt holds one of `limits.concurrency` places, of which one candidate may take half, so that a slow one
    does not hold up the others. Nobody holds a place while waiting to try again.
    """

    def __init__(self, candidates: Sequence[Candidate], limits: PoolLimits) -> None:
        self._candidates = {candidate.name: candidate for candidate in candidates}
        self._limits = limits
        self._places = asyncio.Semaphore(limits.concurrency)
        share = limits.concurrency if len(candidates) == 1 else max(1, limits.concurrency // 2)
        self._shares = {name: asyncio.Semaphore(share) for name in self._candidates}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. The pool may be used again after."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """By name."""
        return self._candidates

    async def ask(self, name: str, query: str) -> Reply:
        """Ask one candidate; what the network or the provider did wrong is in the outcome, and in the log.

        Tokens are summed over every attempt that reported some. Raises ConfigurationError on a name it does not have.
        """
        candidate = self._candidates.get(name)
        if candidate is None:
            raise ConfigurationError(
                f"the pool has no candidate {name!r}; it has {', '.join(sorted(self._candidates))}"
            )
        reply = await self._try(candidate, query)
        if reply.outcome.is_failure:
            _LOG.warning("%s: %s after %d attempts: %s", name, reply.outcome, reply.attempts, reply.detail)
        return reply

    async def check(self) -> None:
        """See that every endpoint answers and every key is there and taken, before anything is paid for.

        Raises ConfigurationError on a missing or refused key and on an impossible address, TransientError on an
        endpoint that does not answer.
        """
        endpoints = {(item.base_url, item.key_env): item for item in self._candidates.values()}
        await asyncio.gather(*(self._check(candidate) for candidate in endpoints.values()))

    async def _try(self, candidate: Candidate, query: str) -> Reply:
        prompt_tokens = completion_tokens = number = 0
        while True:
            attempt = await self._placed(candidate, query)
            number += 1
            prompt_tokens += attempt.reply.prompt_tokens
            completion_tokens += attempt.reply.completion_tokens
            if not attempt.again or number >= self._limits.attempts:
                return replace(
                    attempt.reply,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                    attempts=number,
                )
            await asyncio.sleep(_pause_s(number, attempt.wait_s))

    async def _placed(self, candidate: Candidate, query: str) -> Attempt:
        async with self._shares[candidate.name], self._places:
            return await self._attempt(candidate, query)

    async def _attempt(self, candidate: Candidate, query: str) -> Attempt:
        began = time.perf_counter()
        try:
            attempt = await self._post(candidate, query)
        except TimeoutError:
            attempt = again(Outcome.TIMED_OUT, f"no reply within {self._limits.timeout_s:g} s")
        except ConfigurationError as error:
            attempt = refusal(Outcome.UNREACHABLE, str(error))
        except (aiohttp.ClientError, OSError) as error:
            attempt = again(Outcome.UNREACHABLE, f"{where(candidate)}: {type(error).__name__}")
        if attempt.reply.latency_s:
            return attempt
        return replace(attempt, reply=replace(attempt.reply, latency_s=time.perf_counter() - began))

    async def _post(self, candidate: Candidate, query: str) -> Attempt:
        async with self._open().post(
            url(candidate, "chat/completions"),
            json=self._body(candidate, query),
            headers=authorization(candidate),
            proxy=proxy_for(candidate),
            allow_redirects=False,
        ) as response:
            body = await _bounded(response)
            if body is None:
                return refusal(Outcome.MALFORMED, f"a response of more than {_LONGEST_BODY} bytes")
            return completion(response.status, response.headers, body, candidate)

    def _body(self, candidate: Candidate, query: str) -> dict[str, object]:
        system = [{"role": "system", "content": candidate.system}] if candidate.system else []
        return {
            "model": candidate.model,
            "messages": [*system, {"role": "user", "content": candidate_message(query)}],
            "temperature": self._limits.temperature,
            "top_p": 1.0,
            "seed": self._limits.seed,
            "max_tokens": self._limits.max_tokens,
        }

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
        raise TransientError(
            f"{candidate.name}: {place} does not answer ({problem}); see that it is up, then try again"
        )

    async def _probe(self, candidate: Candidate) -> tuple[int | None, str]:
        """Status of the list of models, None where none came, and the same in words. A 404 is an answer too."""
        address, headers, proxy = url(candidate, "models"), authorization(candidate), proxy_for(candidate)
        try:
            async with self._open().get(address, headers=headers, proxy=proxy, allow_redirects=False) as response:
                return response.status, f"HTTP {response.status}"
        except TimeoutError:
            return None, f"nothing within {self._limits.timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return None, type(error).__name__

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is longer than a reply may be."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST_BODY:
            return None
    return bytes(body)


def _pause_s(number: int, asked_s: float | None) -> float:
    """Seconds before the next attempt: what the provider asks for, else doubling with jitter; bounded either way."""
    own = _FIRST_PAUSE_S * 2 ** (number - 1) * random.uniform(0.5, 1.5)
    return min(own if asked_s is None else asked_s, _LONGEST_PAUSE_S)
