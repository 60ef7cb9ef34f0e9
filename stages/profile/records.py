"""The profile's records: one row a question and candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.profile.plan import Item, Key
from stages.shared.files import atomic_path
from stages.shared.pool.candidate import Candidate, Reply
from stages.shared.scoring import contains, exact_match, f1

SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("dataset", pa.string()),
        ("topic", pa.string()),
        ("hops", pa.int64()),
        ("part_of", pa.string()),
        ("part_index", pa.int64()),
        ("candidate", pa.string()),
        ("seen", pa.bool_()),
        ("reply", pa.string()),
        ("outcome", pa.string()),
        ("em", pa.float64()),
        ("f1", pa.float64()),
        ("contains", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost", pa.float64()),
        ("cost_total", pa.float64()),
        ("latency_s", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Record:
    """One candidate's reply to one question; what a failed call leaves unknown is None."""

    question_id: str
    question: str
    dataset: str
    topic: str
    hops: int
    part_of: str
    """Id of the multi-hop question that this is a part of, or ""."""
    part_index: int
    candidate: str
    seen: bool
    reply: str | None
    outcome: str
    em: float | None
    """Exact match of the short answer within the reply."""
    f1: float | None
    contains: float | None
    """1.0 where a gold answer stands in the reply as a run of whole tokens."""
    prompt_tokens: int
    completion_tokens: int
    cost: float
    """Millionths of a dollar, completion tokens (the paper's cost)."""
    cost_total: float
    latency_s: float | None


def make_records(
    plan: Sequence[Item],
    candidates: Sequence[Candidate],
    replies: Mapping[Key, Reply],
    shorten: Callable[[str], str],
) -> list[Record]:
    """Every item with every candidate's reply; `shorten` finds the short answer within a reply."""
    pairs = ((item, candidate) for item in plan for candidate in candidates)
    return [_record(item, candidate, replies[candidate.name, item.question], shorten) for item, candidate in pairs]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write the table (schema `SCHEMA`), atomically."""
    with atomic_path(path) as part:
        pq.write_table(pa.Table.from_pylist([asdict(record) for record in records], schema=SCHEMA), part)


def _record(item: Item, candidate: Candidate, reply: Reply, shorten: Callable[[str], str]) -> Record:
    failed = reply.outcome.is_failure
    short = shorten(reply.text)
    return Record(
        question_id=item.id,
        question=item.question,
        dataset=item.dataset,
        topic=item.topic,
        hops=item.hops,
        part_of=item.part_of,
        part_index=item.part_index,
        candidate=candidate.name,
        seen=candidate.seen,
        reply=None if failed else reply.text,
        outcome=reply.outcome.value,
        em=None if failed else exact_match(short, item.answers),
        f1=None if failed else f1(short, item.answers),
        contains=None if failed else float(contains(reply.text, item.answers)),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost=reply.cost(candidate),
        cost_total=reply.cost_total(candidate),
        latency_s=None if failed else reply.latency_s,
    )
