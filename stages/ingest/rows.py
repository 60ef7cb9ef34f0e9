"""Rows of published question files, in the forms that they are found in, read into questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.shared.errors import ConfigurationError, DataError
from stages.shared.files import read_bytes
from stages.shared.questions import Question, Split

LARGEST_FILE = 512 * 2**20
"""Bytes; more than any question set needs, less than what would exhaust the memory of a small machine."""
TASKS = {"natural_qa": "nq", "trivia_qa": "triviaqa"}
"""Names of data sets in the `task_name` column of files that mix tasks (LLMRouter)."""
FIELDS = (
    ("question", "golden_answers"), ("question", "answer"), ("question", "answers"), ("query", "ground_truth"),
    ("input", "output"),
)  # fmt: skip
"""Column pairs of FlashRAG, of NQ-open and R1-Searcher, of files made by hand, of LLMRouter, of model_collaboration."""


def read_file(path: Path, dataset: str, split: Split) -> list[Question]:
    """Read one file of questions (`.jsonl`: an object a line; `.json`: a list, or an object of lists by part).

    Rows of other tasks in a file with a `task_name` column are passed over. Raises ConfigurationError when the file is
    missing or too large, DataError naming the row when one cannot be used, and when no row is left.
    """
    _check_size(path)
    questions = [
        _question(row, f"{path}, row {number}", dataset, split)
        for number, row in _rows(path, split)
        if _is_of(row, dataset)
    ]
    if not questions:
        raise DataError(f"{path}: no question of {dataset} in it; check the path under ingest.source")
    return questions


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file; correct ingest.source in params.yaml")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ConfigurationError(f"{path}: {size:,} bytes, more than the limit of {LARGEST_FILE:,}; split the file")


def _rows(path: Path, split: Split) -> Iterator[tuple[int, Any]]:
    """Numbered rows, counted from 1 (lines of a JSONL file, items of a JSON list)."""
    if path.suffix == ".jsonl":
        yield from _lines(path)
    elif path.suffix == ".json":
        yield from enumerate(_items(path, split), 1)
    else:
        raise ConfigurationError(f"{path}: unknown kind of file {path.suffix!r}; use .jsonl or .json")


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield number, _parse(line, f"{path}, row {number}")


def _items(path: Path, split: Split) -> list[Any]:
    value = _parse(read_bytes(path, LARGEST_FILE), str(path))
    if isinstance(value, dict):
        part = "test" if split == "test" else "dev"
        if part not in value:
            raise DataError(f"{path}: an object with neither rows nor a part {part!r} (found {_keys(value)})")
        value = value[part]
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of rows, found {type(value).__name__}")
    return value


def _parse(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}); convert the file") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg}, column {error.colno}); correct or remove it") from error
    except RecursionError as error:
        raise DataError(f"{where}: JSON nested too deeply; correct or remove it") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: not JSON that can be read ({error}); correct or remove it") from error


def _is_of(row: Any, dataset: str) -> bool:
    if not isinstance(row, dict) or "task_name" not in row:
        return True
    name = row["task_name"]
    return bool(TASKS.get(str(name), name) == dataset)


def _question(row: Any, where: str, dataset: str, split: Split) -> Question:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {type(row).__name__}; correct or remove it")
    pair = next((pair for pair in FIELDS if pair[0] in row and pair[1] in row), None)
    if pair is None:
        expected = " or ".join("+".join(pair) for pair in FIELDS)
        raise DataError(f"{where}: expected the keys {expected}, found {_keys(row)}; correct or remove it")
    text = row[pair[0]]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {pair[0]} must be a non-empty string, found {_show(text)}; correct or remove it")
    return Question(text.strip(), _answers(row[pair[1]], pair[1], where), dataset, split, topic=dataset)


def _answers(value: Any, key: str, where: str) -> tuple[str, ...]:
    if key == "output" and isinstance(value, str) and value.lstrip().startswith("["):
        value = _parse(value.encode(), f"{where}, {key}")
    answers = [value] if isinstance(value, str) else value
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise DataError(
            f"{where}: {key} must be a string or a list of strings, found {_show(value)}; correct or remove it"
        )
    kept = tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
    if not kept:
        raise DataError(f"{where}: {key} holds no answer; correct or remove it")
    return kept


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(sorted(map(str, row))[:8]) or "none"


def _show(value: Any) -> str:
    return repr(value)[:60]
