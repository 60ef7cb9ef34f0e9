"""What the records say of a candidate: descriptors for the prompt, and the metrics file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from stages.profile.records import Record
from stages.shared.pool.candidate import Candidate, Descriptor, TopicSkill


@dataclass(frozen=True)
class Measured:
    """Means over answered calls; None where none was answered."""

    calls: int
    failed: int
    em: float | None
    contains: float | None
    f1: float | None
    cost: float | None
    """Millionths of a dollar a question, completion tokens."""
    cost_total: float | None
    latency_s: float | None
    """Median."""
    prompt_tokens: float | None
    completion_tokens: float | None


def describe(candidates: Sequence[Candidate], records: Sequence[Record]) -> list[Descriptor]:
    """Price, median latency and skill by topic of every candidate.

    The skill in a topic is the share of its single-hop questions, parts included, whose reply contains a gold answer:
    replies are sentences, so that their exact match would say nothing.
    """
    once = _once(records)
    return [
        _describe(candidate, [item for item in once if item.candidate == candidate.name]) for candidate in candidates
    ]


def summarise(candidates: Sequence[Candidate], records: Sequence[Record]) -> dict[str, Any]:
    """`metrics/profile.json`: what every candidate scores, costs and takes, overall, by set and by topic."""
    once = _once(records)
    return {
        "questions": len({item.question for item in records if not item.part_of}),
        "parts": len({item.question for item in records if item.part_of}),
        "calls": len(once),
        "failures": dict(sorted(Counter(item.outcome for item in once if item.em is None).items())),
        "candidates": {
            candidate.name: _summarise(candidate, [item for item in records if item.candidate == candidate.name])
            for candidate in candidates
        },
    }


def _summarise(candidate: Candidate, records: Sequence[Record]) -> dict[str, Any]:
    once = _once(records)
    return {
        "seen": candidate.seen,
        "price": candidate.price,
        **asdict(measure(once)),
        "by_set": _by(lambda item: item.dataset, [item for item in records if not item.part_of]),
        "by_topic": _by(lambda item: item.topic, [item for item in once if item.hops == 1]),
    }


def measure(records: Sequence[Record]) -> Measured:
    """What a group of one candidate's records comes to."""
    answered = [item for item in records if item.em is not None]
    return Measured(
        calls=len(records),
        failed=len(records) - len(answered),
        em=_mean(item.em for item in answered),
        contains=_mean(item.contains for item in answered),
        f1=_mean(item.f1 for item in answered),
        cost=_mean(item.cost for item in answered),
        cost_total=_mean(item.cost_total for item in answered),
        latency_s=_median(answered),
        prompt_tokens=_mean(item.prompt_tokens for item in answered),
        completion_tokens=_mean(item.completion_tokens for item in answered),
    )


def _describe(candidate: Candidate, records: Sequence[Record]) -> Descriptor:
    single = [item for item in records if item.hops == 1 and item.em is not None]
    topics = sorted({item.topic for item in single})
    skill = {topic: _skill([item for item in single if item.topic == topic]) for topic in topics}
    latency = _median([item for item in records if item.em is not None])
    return Descriptor(candidate.name, candidate.price, latency or 0.0, skill, candidate.seen, candidate.summary)


def _skill(records: Sequence[Record]) -> TopicSkill:
    """Of answered calls, at least one."""
    return TopicSkill(
        fmean(item.contains or 0.0 for item in records), fmean(item.f1 or 0.0 for item in records), len(records)
    )


def _once(records: Sequence[Record]) -> list[Record]:
    """One record for each call: a question that is also a part of others was asked once."""
    return list({(item.candidate, item.question): item for item in reversed(records)}.values())[::-1]


def _by(key: Callable[[Record], str], records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    names = sorted({key(item) for item in records})
    return {name: asdict(measure([item for item in records if key(item) == name])) for name in names}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 6) if known else None


def _median(records: Sequence[Record]) -> float | None:
    """Median latency in seconds, to the millisecond."""
    known = [item.latency_s for item in records if item.latency_s is not None]
    return round(median(known), 3) if known else None
