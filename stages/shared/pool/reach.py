"""Whether the candidates of a run can be reached: asked for their list of models, which costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.finding import Finding
from stages.shared.params import PoolParams, WorldParams
from stages.shared.pool.attempt import fit_for_a_log
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.endpoint import authorization, where
from stages.shared.pool.money import tariff
from stages.shared.pool.serving import serve
from stages.shared.pool.wire import Wire

PATIENCE_S = 10.0
LONGEST_LIST = 1 << 23
SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """What one endpoint said of its models; `models` is None where it gave no list, and `why` says what it gave."""

    models: frozenset[str] | None
    latency_s: float
    why: str = ""
    proved: bool = True
    """Whether it took the key, so far as anybody can tell."""


def check_pool(pool: PoolParams, world: WorldParams, state: Path) -> tuple[Finding, ...]:
    """Bring the candidates up as a run does, and ask each for its models; a finding a key and a candidate.

    Candidates that this machine serves itself are started for it, and stopped; those without their key are not asked.
    """
    try:
        with serve(pool, world, state) as candidates:
            keys = {item.key_env: key(item.key_env, item) for item in candidates if item.key_env}
            lacking = {name for name, finding in keys.items() if finding.state == "wrong"}
            asked = [item for item in candidates if item.key_env not in lacking]
            return (*keys.values(), *asyncio.run(reach(asked)))
    except PipelineError as error:
        return (Finding.of("candidates", error),)


def key(name: str, candidate: Candidate) -> Finding:
    """Whether the variable that a candidate names is set; its value is never shown."""
    try:
        authorization(candidate)
    except ConfigurationError:
        found = "holds no usable API key" if os.environ.get(name, "").strip() else "is not set"
        return Finding(f"${name}", "wrong", f"{found}, and candidates need it", f"export {name}=…")
    return Finding(f"${name}", "good", "is set")


async def reach(candidates: Sequence[Candidate], patience_s: float = PATIENCE_S) -> tuple[Finding, ...]:
    """Ask every endpoint for its models, all at once and once each; never raises for what one does."""
    endpoints = {(item.base_url, item.key_env): item for item in candidates}
    wire = Wire(candidates)
    try:
        answers = await asyncio.gather(*(_list(wire, item, patience_s) for item in endpoints.values()))
    finally:
        await wire.close()
    known = dict(zip(endpoints, answers, strict=True))
    return tuple(_judge(item, known[item.base_url, item.key_env]) for item in candidates)


async def _list(wire: Wire, candidate: Candidate, patience_s: float) -> Listing | ConfigurationError:
    """The models of an endpoint, or what hinders a call to it."""
    began = time.perf_counter()
    try:
        response = await wire.models(candidate, patience_s, LONGEST_LIST)
        return _read(response.status, response.body, candidate, time.perf_counter() - began)
    except ConfigurationError as error:
        return error
    except TimeoutError:
        return ConfigurationError(f"{where(candidate)} says nothing within {patience_s:g} s; see that it is up")
    except ConnectionError as error:
        return ConfigurationError(f"{where(candidate)} does not answer ({error}); see that it is up and base_url right")


def _read(status: int, body: bytes | None, candidate: Candidate, latency_s: float) -> Listing | ConfigurationError:
    place = where(candidate)
    if status in (401, 403):
        key = f"the key in {candidate.key_env}" if candidate.key_env else "a call without a key (no key_env)"
        return ConfigurationError(f"{place} refuses {key} (HTTP {status}); give a valid one")
    if status == 402:
        return ConfigurationError(f"{place} gives no more credit (HTTP 402); pay its provider, or leave it out")
    if 300 <= status < 400:
        return ConfigurationError(f"{place} redirects (HTTP {status}); write where to as base_url")
    if status == 429 or status >= 500:
        return ConfigurationError(f"{place} is not able to answer now (HTTP {status}); try again later")
    if status >= 400:
        return Listing(None, latency_s, f"HTTP {status} for the list of models", proved=False)
    if body is None:
        return Listing(None, latency_s, f"a list of models of more than {LONGEST_LIST:,} bytes")
    models = _models(body)
    return Listing(models, latency_s, "" if models is not None else "no list of models")


def _some(models: frozenset[str]) -> str:
    """The first of them; an endpoint may name them as it likes, and people read this in a terminal."""
    first = ", ".join(fit_for_a_log(name) for name in sorted(models)[:SHOWN])
    return f"{first}, …" if len(models) > SHOWN else first or "none"


def _models(body: bytes) -> frozenset[str] | None:
    """The ids of an OpenAI-shaped list, None for anything else."""
    try:
        document: Any = json.loads(body)
        return frozenset(str(entry["id"]) for entry in document["data"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _judge(candidate: Candidate, answer: Listing | ConfigurationError) -> Finding:
    try:
        tariff(candidate)
    except ConfigurationError as error:
        return Finding.of(candidate.name, error)
    if isinstance(answer, ConfigurationError):
        return Finding.of(candidate.name, answer)
    key = f", key in {candidate.key_env} accepted" if candidate.key_env and answer.proved else ""
    price = f"{candidate.price:g} USD per 1M tokens, prompts {candidate.prompt_price:g}"
    place = f"{where(candidate)} in {1000 * answer.latency_s:.0f} ms"
    if answer.models is None:
        unproved = f"{place}{key}; it gives {answer.why}, so {candidate.model} is unproved"
        return Finding(candidate.name, "note", unproved, "see that base_url is all that comes before /chat/completions")
    if candidate.model not in answer.models:
        return Finding(candidate.name, "wrong", f"{place} has no model {candidate.model}",
                       f"correct pool.candidates, model: it has {_some(answer.models)}")  # fmt: skip
    return Finding(candidate.name, "good", f"{place}{key}, {candidate.model}, {price}")
