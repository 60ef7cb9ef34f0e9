"""artifacts/evaluate/episodes.parquet: every question as every method answered it, transcript included."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.evaluate.attempt import Result
from stages.shared.files import atomic_path

CHUNK = 16_384
"""Rows held as Python objects at a time, and of a row group."""
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("pool", pa.string()),
        ("dataset", pa.string()),
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("topic", pa.string()),
        ("hops", pa.int64()),
        ("prediction", pa.string()),
        ("em", pa.float64()),
        ("f1", pa.float64()),
        ("cost", pa.float64()),
        ("cost_total", pa.float64()),
        ("calls", pa.int64()),
        ("called", pa.list_(pa.string())),
        ("prompt_tokens", pa.list_(pa.int64())),
        ("completion_tokens", pa.list_(pa.int64())),
        ("latency_s", pa.float64()),
        ("own_cost", pa.float64()),
        ("own_tokens", pa.int64()),
        ("own_read", pa.int64()),
        ("reply", pa.string()),
        ("reply_em", pa.float64()),
        ("reply_f1", pa.float64()),
        ("reply_holds", pa.float64()),
        ("faults", pa.list_(pa.string())),
        ("transcript", pa.string()),
    ]
)
"""Costs are millionths of a dollar; `own_*` is what the policy itself wrote, read and cost; `called` names the
candidate behind each call, in order, and `prompt_tokens` and `completion_tokens` are of these calls; `latency_s` is
seconds of the calls, one after the other; `reply` is the one that was answered from, whole, with its own marks, null of
methods that take no single one."""


def write_episodes(path: Path, results: Iterable[Result]) -> None:
    """Write the table, atomically; the transcripts of one call that several methods chose compress away."""
    rows = map(_row, results)
    with atomic_path(path) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        while chunk := list(islice(rows, CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=SCHEMA))


def _row(result: Result) -> dict[str, object]:
    question, marks = result.question, result.reply_marks
    return {
        "method": result.method, "pool": result.pool, "dataset": question.dataset, "question_id": question.id,
        "question": question.question, "answers": list(question.answers), "topic": question.topic,
        "hops": question.hops,
        "prediction": result.prediction, "em": result.em, "f1": result.f1, "cost": result.cost,
        "cost_total": result.cost_total, "calls": result.calls, "called": list(result.called),
        "prompt_tokens": [count for count, _ in result.tokens],
        "completion_tokens": [count for _, count in result.tokens],
        "latency_s": result.latency_s,
        "own_cost": result.own_cost, "own_tokens": result.own_tokens, "own_read": result.own_read,
        "reply": result.reply, "reply_em": marks and marks.em, "reply_f1": marks and marks.f1,
        "reply_holds": marks and marks.holds,
        "faults": list(result.faults), "transcript": result.transcript,
    }  # fmt: skip
