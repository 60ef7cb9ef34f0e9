"""A few answers of a candidate: what is known of it before anybody pays for a whole profile."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq

from stages.evaluate.records import Record, read_records
from stages.shared.errors import DataError
from stages.shared.pool.candidate import TopicSkill


@dataclass(frozen=True)
class Shots:
    """The few-shot records of the candidates, and the skills that they show."""

    records: Mapping[str, tuple[Record, ...]]
    skills: Mapping[str, Mapping[str, TopicSkill]]


def draw_shots(path: Path, names: Sequence[str], count: int, seed: int) -> Shots:
    """`count` single-hop questions of the profile's records, the same for every candidate.

    Raises DataError when there are fewer with an answer of each.
    """
    topics = _topics(path)
    known: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in read_records(path):
        if record.candidate in names and not record.failed and record.question in topics:
            known[record.question][record.candidate] = record
    asked = sorted(text for text, row in known.items() if len(row) == len(names))
    if names and len(asked) < count:
        raise DataError(
            f"{path}: {len(asked)} single-hop questions were answered by {', '.join(names)}, --shots wants {count}; "
            "give fewer, or raise profile.questions"
        )
    drawn = random.Random(seed).sample(asked, count) if names else []
    records = {name: tuple(known[text][name] for text in drawn) for name in names}
    return Shots(records, {name: _skills(rows, topics) for name, rows in records.items()})


def _skills(records: Sequence[Record], topics: Mapping[str, str]) -> dict[str, TopicSkill]:
    """As the profile's descriptors have it: by topic, the share of replies that hold a gold answer."""
    groups: dict[str, list[float]] = defaultdict(list)
    for record in records:
        groups[topics[record.question]].append(record.score)
    return {topic: TopicSkill(fmean(group), fmean(group), len(group)) for topic, group in sorted(groups.items())}


def _topics(path: Path) -> dict[str, str]:
    """Single-hop question -> its topic."""
    try:
        rows = pq.read_table(path, columns=["question", "topic", "hops"]).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not the profile's records ({error}); run the profile stage first") from error
    return {row["question"]: row["topic"] for row in rows if row["hops"] == 1}
