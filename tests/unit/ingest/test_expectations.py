"""Great Expectations holds every table to its suite."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.ingest.expectations import Checked, check_tables
from stages.shared.errors import DataError
from stages.shared.questions import Question

GOOD = [Question(f"what is {number} ?", ("yes",), "nq", "train", "nq") for number in range(5)]


def test_good_tables_meet_every_expectation() -> None:
    checked = check_tables({"train": GOOD, "test": [replace(GOOD[0], split="test")]})

    assert checked == [Checked("train", 5, 14), Checked("test", 1, 14)]


@pytest.mark.parametrize(
    "change, expectation",
    [
        ({"question": "What is 0"}, "unique on id"),
        ({"question": "? ! ?"}, "regex on question"),
        ({"question": "a" * 5000}, "lengths_to_be_between on question"),
        ({"answers": ()}, "between on answers"),
        ({"answers": ("ok", " ")}, "between on shortest"),
        ({"answers": ("a" * 2000,)}, "between on longest"),
        ({"dataset": "squad"}, "in_set on data_source"),
        ({"split": "test"}, "in_set on split"),
        ({"hops": 7}, "between on hops"),
    ],
)
def test_a_bad_row_is_named_with_the_expectation_it_breaks(change: dict[str, object], expectation: str) -> None:
    with pytest.raises(DataError) as caught:
        check_tables({"train": [*GOOD[:3], replace(GOOD[3], **change), GOOD[4]]})

    assert expectation in str(caught.value)
    assert "row 3" in str(caught.value)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"validation: expect_table_row_count_to_be_between on the table \(found 0\)"):
        check_tables({"train": GOOD, "validation": []})


def test_a_table_is_checked_chunk_by_chunk_and_rows_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.ingest.expectations.CHUNK", 2)
    assert check_tables({"train": GOOD}) == [Checked("train", 5, 14)]
    with pytest.raises(DataError, match="row 4"):
        check_tables({"train": [*GOOD[:4], replace(GOOD[4], hops=7)]})
