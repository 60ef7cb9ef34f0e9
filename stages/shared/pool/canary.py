"""Whether candidates are still those that were profiled: some of the profile's questions, asked again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.shared.errors import ConfigurationError, DataError
from stages.shared.finding import Finding
from stages.shared.params import Params
from stages.shared.pool.attempt import ANOTHER_MODEL
from stages.shared.pool.candidate import Candidate, Reply
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import FOLDER, Place, finish_ledger, open_ledger
from stages.shared.pool.serving import serve
from stages.shared.pool.setting import setting
from stages.shared.pool.wire import Wire
from stages.shared.scoring import normalise
from stages.shared.workspace import Workspace

PRICE_TOLERANCE = 0.01
LIST_PATIENCE_S = 20.0
LONGEST_LIST = 1 << 23
A_MILLION = 1e6


@dataclass(frozen=True)
class Canary:
    """A question of the profile, and what the candidate answered then."""

    question: str
    reply: str


@dataclass(frozen=True)
class Prices:
    """USD per 1M tokens."""

    prompt: float
    completion: float


@dataclass(frozen=True)
class Reading:
    """What a candidate does now."""

    candidate: str
    asked: int
    same: int
    """Answers that are the profile's, but for case, punctuation and articles."""
    failures: tuple[str, ...]
    """Why calls brought no answer, in words."""
    another: str
    """What the endpoint said of the model where it was another one; "" otherwise."""
    set_prices: Prices
    listed_prices: Prices | None
    """What the endpoint's list of models says, where it names prices."""

    def drifted(self, agreement: float) -> bool:
        """Whether it is another candidate than the profile's: `agreement` is the least share of equal answers."""
        answered = self.asked - len(self.failures)
        return bool(self.another) or (answered > 0 and self.same < agreement * answered)

    def findings(self, agreement: float) -> list[Finding]:
        """Its answers, and its prices where they are wrong."""
        return [self._answers(agreement), *self._prices()]

    def _answers(self, agreement: float) -> Finding:
        answered = self.asked - len(self.failures)
        if self.another:
            return Finding(self.candidate, "wrong", self.another, "pointsman retrain: it is profiled again")
        if not answered:
            return Finding(self.candidate, "wrong", f"no answer: {self.failures[-1]}", "see that it is up")
        said = f"{self.same} of {answered} answers are the profile's"
        if self.drifted(agreement):
            return Finding(self.candidate, "wrong", said, "pointsman retrain: it is profiled again")
        return Finding(self.candidate, "note" if self.failures else "good", said)

    def _prices(self) -> list[Finding]:
        listed, kept = self.listed_prices, self.set_prices
        if listed is None or (_near(listed.prompt, kept.prompt) and _near(listed.completion, kept.completion)):
            return []
        found = f"is listed at {listed.completion:g} (prompt {listed.prompt:g}) USD per 1M, set to "
        found += f"{kept.completion:g} (prompt {kept.prompt:g})"
        return [Finding(f"{self.candidate}, price", "wrong", found, "set pool's price and prompt_price to it")]


def look(params: Params, workspace: Workspace, count: int) -> list[Reading]:
    """Ask every candidate `count` of the questions that it answered in the profile. What is paid is in the ledger.

    Raises DataError where there is no profile, and what `HttpPool.check` raises.
    """
    canaries = choose(workspace.artifacts("profile") / "records.parquet", count)
    place = Place(workspace.runs(FOLDER), "watch", setting(params.pool, params.world), since=time.time())
    with (
        open_ledger(place, params.pool.limits.budget) as ledger,
        serve(params.pool, params.world, workspace.state) as candidates,
    ):
        known = [candidate for candidate in candidates if candidate.name in canaries]
        pool = HttpPool(known, params.pool.limits, ledger)
        readings = asyncio.run(_read(pool, known, canaries))
    finish_ledger(place)
    return readings


def choose(records: Path, count: int) -> dict[str, list[Canary]]:
    """The same `count` questions for every candidate, as far as it answered them; spread by hash, not by order.

    Raises DataError where the table is missing.
    """
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(records, columns=["candidate", "question", "reply"]).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{records}: no such file; there is nothing to compare with before `pointsman run`") from error
    found: dict[str, dict[str, Canary]] = {}
    for row in rows:
        if row["reply"] is not None:
            found.setdefault(row["candidate"], {})[row["question"]] = Canary(row["question"], row["reply"])
    order = sorted({row["question"] for row in rows}, key=lambda text: hashlib.sha256(text.encode()).digest())
    return {name: [answers[text] for text in order if text in answers][:count] for name, answers in found.items()}


async def _read(
    pool: HttpPool, candidates: Sequence[Candidate], canaries: Mapping[str, Sequence[Canary]]
) -> list[Reading]:
    async with pool:
        calls = [(candidate, canary) for candidate in candidates for canary in canaries[candidate.name]]
        replies = await asyncio.gather(*(pool.ask(candidate.name, canary.question) for candidate, canary in calls))
    answered: dict[str, list[tuple[Canary, Reply]]] = {candidate.name: [] for candidate in candidates}
    for (candidate, canary), reply in zip(calls, replies, strict=True):
        answered[candidate.name].append((canary, reply))
    prices = await _list_prices(candidates)
    return [_reading(each, answered[each.name], prices.get((each.base_url, each.model))) for each in candidates]


def _reading(candidate: Candidate, answered: Sequence[tuple[Canary, Reply]], listed: Prices | None) -> Reading:
    failures = [f"{reply.outcome} {reply.detail}".strip() for _, reply in answered if reply.outcome.is_failure]
    another = [reply.detail for _, reply in answered if reply.detail.startswith(ANOTHER_MODEL)]
    same = [
        normalise(canary.reply) == normalise(reply.text) for canary, reply in answered if not reply.outcome.is_failure
    ]
    own = Prices(candidate.prompt_price, candidate.price)
    return Reading(
        candidate.name, len(answered), sum(same), tuple(failures), another[0] if another else "", own, listed
    )


async def _list_prices(candidates: Sequence[Candidate]) -> dict[tuple[str, str], Prices]:
    """Endpoint and model -> prices, of the endpoints whose list of models names them, as OpenRouter's does."""
    endpoints = {(item.base_url, item.key_env): item for item in candidates}
    found: dict[tuple[str, str], Prices] = {}
    wire = Wire(candidates)
    try:
        for item in endpoints.values():
            for entry in await _models(wire, item):
                prices = _prices(entry)
                if prices is not None:
                    found[item.base_url, str(entry["id"])] = prices
    finally:
        await wire.close()
    return found


async def _models(wire: Wire, item: Candidate) -> list[dict[str, object]]:
    """What an endpoint lists; nothing where it keeps no list or does not answer: the canaries tell of that."""
    try:
        response = await wire.models(item, LIST_PATIENCE_S, LONGEST_LIST)
        document = json.loads(response.body or b"")
    except (OSError, ValueError, RecursionError, ConfigurationError):
        return []
    listed = document.get("data") if isinstance(document, dict) else None
    return [entry for entry in listed if isinstance(entry, dict) and "id" in entry] if isinstance(listed, list) else []


def _prices(entry: Mapping[str, object]) -> Prices | None:
    """`pricing: {prompt, completion}`, USD a token, as text or number."""
    given = entry.get("pricing")
    if not isinstance(given, dict):
        return None
    try:
        return Prices(float(given["prompt"]) * A_MILLION, float(given["completion"]) * A_MILLION)
    except (KeyError, TypeError, ValueError):
        return None


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= PRICE_TOLERANCE * max(abs(one), abs(other))
