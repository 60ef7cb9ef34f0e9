"""The profile's table, as the teacher reads it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.profile.records import SCHEMA
from stages.shared.errors import DataError
from stages.shared.questions import question_id
from stages.train.warm_start.records import group, read_records


def row(**changes) -> dict:
    whole = {"question": "Who is it?", "candidate": "Arlix", "reply": "Zumako", "outcome": "answered",
             "prompt_tokens": 9, "completion_tokens": 3, "latency_s": 0.4}  # fmt: skip
    return {**whole, **changes}


def test_the_profile_stages_own_table_is_read(tmp_path):
    path = tmp_path / "records.parquet"
    failed = row(candidate="Bomon", outcome="timed-out", reply=None, latency_s=None)
    pq.write_table(pa.Table.from_pylist([row(), failed], schema=SCHEMA), path)
    (calls,) = read_records(path).values()
    assert [(call.candidate, call.query, call.reply.text) for call in calls] == [("Arlix", "Who is it?", "Zumako")]


def test_a_part_of_several_questions_is_found_by_what_it_asks():
    records = group([row(), row(question="who is it", reply="other"), row(candidate="Bomon")])
    assert [call.candidate for call in records[question_id("WHO is it ?")]] == ["Arlix", "Bomon"]


def test_a_missing_table_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(DataError, match="run the profile stage"):
        read_records(tmp_path / "records.parquet")


@pytest.mark.parametrize("columns", [{"question": ["x"]}, {"reply": [1]}])
def test_another_table_is_refused(tmp_path, columns):
    path = tmp_path / "records.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match="not a table of profile records"):
        read_records(path)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "records.parquet"
    path.write_text("question,reply\n")
    with pytest.raises(DataError, match="not a table of profile records"):
        read_records(path)
