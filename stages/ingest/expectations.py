"""Great Expectations suites: what every table of questions must hold before a later stage may read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.shared.errors import DataError
from stages.shared.params import DATASETS
from stages.shared.questions import Question, Split

if TYPE_CHECKING:
    import pandas

CHUNK = 65_536
"""Rows in a table at a time. That an id is unique is seen within them: the draw keeps each question once."""
LONGEST_QUESTION = 4000
"""Characters. With a prompt of 2048 tokens a longer one leaves no room for the candidates."""
LONGEST_ANSWER = 1000
MOST_HOPS = 4


@dataclass(frozen=True)
class Checked:
    """How many expectations a table met; all of them, or `check_tables` has raised."""

    split: Split
    rows: int
    expectations: int


def check_tables(tables: dict[Split, Sequence[Question]]) -> list[Checked]:
    """Hold every split to its suite, in an ephemeral context with analytics off (the import takes seconds).

    Raises DataError naming split, expectation, column and example rows of everything that failed.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("questions")
    checked, faults = [], []
    for split, questions in tables.items():
        batch = source.add_dataframe_asset(split).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(name=split, expectations=_suite(split))
        for start in range(0, max(1, len(questions)), CHUNK):
            frame = to_frame(questions[start : start + CHUNK], start)
            result = batch.get_batch({"dataframe": frame}).validate(suite, result_format=_FORMAT).to_json_dict()
            faults += [_explain(split, frame, item) for item in result["results"] if not item["success"]]
        checked.append(Checked(split, len(questions), len(result["results"])))
    if faults:
        raise DataError("\n".join(["questions do not meet the expectations:", *faults, "correct the source's files"]))
    return checked


_FORMAT = {"result_format": "COMPLETE", "partial_unexpected_count": 3}


def to_frame(questions: Sequence[Question], start: int = 0) -> pandas.DataFrame:
    """One row a question, numbered from `start`, with what the suites look at."""
    import pandas

    columns = ["id", "question", "data_source", "split", "topic", "hops", "parts", "answers", "shortest", "longest"]
    rows = [_measure(question) for question in questions]
    return pandas.DataFrame(rows, columns=columns, index=range(start, start + len(rows)))


def _measure(question: Question) -> tuple[Any, ...]:
    lengths = [len(answer.strip()) for answer in question.answers] or [0]
    return (
        question.id,
        question.question,
        question.dataset,
        question.split,
        question.topic,
        question.hops,
        len(question.parts),
        len(question.answers),
        min(lengths),
        max(lengths),
    )


def _suite(split: Split) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnValuesToMatchRegex(column="id", regex="^[0-9a-f]{16}$"),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToNotBeNull(column="question"),
        gxe.ExpectColumnValueLengthsToBeBetween(column="question", min_value=3, max_value=LONGEST_QUESTION),
        gxe.ExpectColumnValuesToMatchRegex(column="question", regex=r"\w"),
        gxe.ExpectColumnValuesToBeInSet(column="data_source", value_set=list(DATASETS)),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=[split]),
        gxe.ExpectColumnValuesToNotBeNull(column="topic"),
        gxe.ExpectColumnValuesToBeBetween(column="hops", min_value=1, max_value=MOST_HOPS),
        gxe.ExpectColumnValuesToBeInSet(column="parts", value_set=[0, *range(2, MOST_HOPS + 1)]),
        gxe.ExpectColumnValuesToBeBetween(column="answers", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="shortest", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="longest", max_value=LONGEST_ANSWER),
    ]


def _explain(split: Split, frame: pandas.DataFrame, item: dict[str, Any]) -> str:
    config, result = item["expectation_config"], item["result"]
    column = config["kwargs"].get("column", "the table")
    rows = result.get("unexpected_index_list") or []
    shown = "; ".join(f"row {row}: {str(frame.loc[row, 'question'])[:60]!r}" for row in rows[:3])
    count = f", {len(rows)} of {len(frame)} rows ({shown})" if rows else f" (found {result.get('observed_value')})"
    return f"  {split}: {config['type']} on {column}{count}"
