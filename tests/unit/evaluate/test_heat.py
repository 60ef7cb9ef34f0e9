"""Questions in chunks: what comes of them is the same, and what is held of them does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.evaluate.attempt import Result
from stages.evaluate.contest import FITS, Standing
from stages.evaluate.episodes import CHUNK, SCHEMA, growing, table, write_episodes
from stages.evaluate.heat import chunks, hold
from stages.evaluate.marking import Marker
from stages.evaluate.measure import Line, Measurement
from stages.evaluate.replies import RememberingPool
from stages.evaluate.routers.fixed import FixedRouter
from stages.evaluate.routers.protocol import Asked, Choice
from stages.shared.progress import Progress
from tests.unit.evaluate.test_play import QUESTIONS, TARIFF, FakePool, contest, lines, marker, player  # noqa: F401


async def played(
    lines: list[Line], marker: Marker, root: Path, size: int, methods: Sequence[str] = ("knn",)  # noqa: F811
) -> tuple[list[Result], Standing]:  # fmt: skip
    held, who, found = (
        contest(lines, marker, methods=tuple(methods)),
        player(RememberingPool(FakePool())),
        list[Result](),
    )
    total = sum(held.size(chunk) for chunk in chunks(QUESTIONS, size))
    with Progress("evaluate", total=total, unit="episodes", root=root) as progress:
        measurement = Measurement(who, who, (), TARIFF, in_flight=8, progress=progress)
        standing = await hold(held, measurement, iter(QUESTIONS), found.extend, size)
        assert progress.snapshot.done == total
    return found, standing


def told(results: Sequence[Result]) -> list[dict[str, Any]]:
    return sorted(table(results).to_pylist(), key=lambda row: (row["method"], row["pool"], row["question_id"]))


async def test_chunk_after_chunk_gives_what_one_chunk_gives(
    lines: list[Line], marker: Marker, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    (whole, known), (parts, same) = [await played(lines, marker, tmp_path, size) for size in (2, 1)]
    assert told(parts) == told(whole)
    assert (same.calibrations, same.choices.reading) == (known.calibrations, known.choices.reading)
    assert known.choices.reading is None or known.choices.reading.n == 1
    assert [item.method for item in whole[:2]] == ["router"] * 2, "method after method within a chunk"
    assert {item.question.id for item in parts[: len(parts) // 2]} == {QUESTIONS[0].id}


class LateFailure(FixedRouter):
    """Knows nothing of the second question."""

    def decide(self, asked: Asked, thrift: float = 0.0) -> list[Choice]:
        if QUESTIONS[1].question in asked.questions:
            raise ValueError("too hard")
        return super().decide(asked, thrift)


async def test_a_method_that_fails_at_a_later_chunk_has_no_result_and_leaves_no_row(
    lines: list[Line], marker: Marker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setitem(FITS, "knn", lambda history, params: LateFailure("Arlix"))
    results, standing = await played(lines, marker, tmp_path, size=1)
    assert standing.failures == {("knn", "seen"): "too hard", ("knn", "all"): "too hard"}
    assert "knn" in {item.method for item in results}, "it played the first chunk"
    with growing(tmp_path) as episodes:
        episodes.add(results)
        episodes.save(tmp_path / "episodes.parquet", without=standing.failures)
    kept = [item for item in results if item.method != "knn"]
    assert pq.read_table(tmp_path / "episodes.parquet").equals(table(kept))


def test_the_file_is_the_same_however_many_rows_come_at_a_time(tmp_path: Path, sample: Any) -> None:
    results = list(sample.results) * (CHUNK // len(sample.results) + 1)
    write_episodes(tmp_path / "whole.parquet", results)
    with growing(tmp_path) as episodes:
        for start in range(0, len(results), 1_000):
            episodes.add(results[start : start + 1_000])
        episodes.save(tmp_path / "parts.parquet")
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.read_schema(tmp_path / "parts.parquet").equals(SCHEMA)
    assert pq.ParquetFile(tmp_path / "parts.parquet").metadata.row_group(0).num_rows == CHUNK
    assert {path.name for path in tmp_path.iterdir()} == {"parts.parquet", "whole.parquet"}


async def test_the_oldest_replies_are_forgotten_and_asked_for_again() -> None:
    behind = FakePool()
    pool = RememberingPool(behind, most=2)
    for query in ("one ?", "two ?", "three ?", "three ?", "one ?"):
        await pool.ask("Arlix", query)
    assert behind.asked == {("Arlix", "one ?"): 2, ("Arlix", "two ?"): 1, ("Arlix", "three ?"): 1}
