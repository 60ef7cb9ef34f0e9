"""Tables of questions: a row each, written and read a chunk at a time."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.shared import questions
from stages.shared.errors import DataError
from stages.shared.questions import Question, SubQuestion, iter_questions, read_questions, write_questions

PARTS = (SubQuestion("what is a ?", ("x",), "t"), SubQuestion("what is b ?", ("y", "z"), "t"))
SET = [Question(f"what is {number} ?", (str(number),), "nq", "test", "t") for number in range(6)]
SET.append(Question("what is b of a ?", ("y", "z"), "musique", "test", hops=2, parts=PARTS))


@pytest.mark.parametrize("chunk", [2, 7, 100])
def test_what_is_written_is_read_whatever_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(questions, "CHUNK", chunk)
    write_questions(tmp_path / "test.parquet", SET)
    assert read_questions(tmp_path / "test.parquet") == SET
    assert next(iter_questions(tmp_path / "test.parquet")) == SET[0]
    indices = pq.read_table(tmp_path / "test.parquet").column("extra_info").to_pylist()
    assert [info["index"] for info in indices] == list(range(7))


def test_a_file_that_is_none_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the ingest stage first"):
        read_questions(tmp_path / "test.parquet")
    (tmp_path / "test.parquet").write_text("no table")
    with pytest.raises(DataError, match="is no table of questions"):
        read_questions(tmp_path / "test.parquet")
