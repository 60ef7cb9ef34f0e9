"""Every published form of a question file is read; what cannot be read is named by file and row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest import rows
from stages.ingest.rows import read_file
from stages.shared.errors import ConfigurationError, DataError


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name, content, answers",
    [
        ("nq_open.jsonl", [{"question": "who ?", "answer": ["Ada", "A. L."]}], ("Ada", "A. L.")),
        ("r1searcher.jsonl", [{"idx": 1, "question": "who ?", "answer": "Ada", "gen_text_store": ""}], ("Ada",)),
        ("react.json", [{"question": "who ?", "answer": "Ada", "type": "bridge"}], ("Ada",)),
        ("flashrag.jsonl", [{"id": "test_0", "question": "who ?", "golden_answers": ["Ada", "Ada"]}], ("Ada",)),
        ("by_hand.jsonl", [{"question": "who ?", "answers": ["Ada", "A. L."]}], ("Ada", "A. L.")),
        ("llmrouter.jsonl", [{"task_name": "natural_qa", "query": "who ?", "ground_truth": "Ada"}], ("Ada",)),
        ("popqa.json", {"dev": [], "test": [{"input": "who ?", "output": '["Ada", "A. L."]'}]}, ("Ada", "A. L.")),
    ],
)
def test_every_published_form_is_read(tmp_path: Path, name: str, content: object, answers: tuple[str, ...]) -> None:
    (question,) = read_file(write(tmp_path, name, content), "nq", "test")

    assert (question.question, question.answers) == ("who ?", answers)
    assert (question.dataset, question.split, question.topic, question.hops) == ("nq", "test", "nq", 1)


def test_a_file_with_parts_gives_dev_for_training_and_test_for_the_test(tmp_path: Path) -> None:
    parts = {part: [{"input": f"{part} ?", "output": '["x"]'}] for part in ("dev", "test")}
    path = write(tmp_path, "popqa.json", parts)

    assert [q.question for q in read_file(path, "popqa", "train")] == ["dev ?"]
    assert [q.question for q in read_file(path, "popqa", "test")] == ["test ?"]


def test_rows_of_other_tasks_are_passed_over(tmp_path: Path) -> None:
    tasks = ("math", "trivia_qa", "natural_qa")
    path = write(tmp_path, "mixed.jsonl", [{"task_name": t, "query": f"{t} ?", "ground_truth": "x"} for t in tasks])

    assert [q.question for q in read_file(path, "triviaqa", "test")] == ["trivia_qa ?"]


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl", b'\xef\xbb\xbf{"question": "a ?", "answer": "x"}\n\n{"question": "b ?", "answer": "y"}'
    )

    assert len(read_file(path, "nq", "test")) == 2


GOOD = b'{"question": "a ?", "answer": "x"}\n'


@pytest.mark.parametrize(
    "second, says",
    [
        (b'{"question": "a ?"', "not JSON"),
        (b'["a", "b"]', "expected an object, found list"),
        (b'{"question": "a ?", "reply": "x"}', "expected the keys question+golden_answers"),
        (b'{"question": "", "answer": "x"}', "question must be a non-empty string"),
        (b'{"question": null, "answer": "x"}', "found None"),
        (b'{"question": "a ?", "answer": []}', "answer holds no answer"),
        (b'{"question": "a ?", "answer": "  "}', "answer holds no answer"),
        (b'{"question": "a ?", "answer": 7}', "answer must be a string or a list of strings, found 7"),
        (b'{"question": "a ?", "answer": ["x", null]}', "answer must be a string or a list of strings"),
        (b'{"input": "a ?", "output": "[broken"}', "output: not JSON"),
        (b'{"question": "\xff", "answer": "x"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"question": ' + b"9" * 5000 + b', "answer": "x"}', "not JSON that can be read"),
    ],
)
def test_a_malformed_row_is_named_with_what_is_wrong(tmp_path: Path, second: bytes, says: str) -> None:
    path = write(tmp_path, "bad.jsonl", GOOD + second + b"\n" + GOOD)

    with pytest.raises(DataError) as caught:
        read_file(path, "nq", "train")

    assert "bad.jsonl, row 2" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("name, content", [("a.jsonl", b""), ("a.jsonl", b"\n \n"), ("a.json", b"[]")])
def test_a_file_without_questions_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match="no question of nq"):
        read_file(write(tmp_path, name, content), "nq", "train")


@pytest.mark.parametrize(
    "content, says", [(b"", "not JSON"), (b'"text"', "expected a list"), (b'{"rows": []}', "'dev'")]
)
def test_a_json_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_file(write(tmp_path, "a.json", content), "nq", "train")


def test_a_missing_file_and_an_unknown_kind_are_for_the_user_to_correct(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        read_file(tmp_path / "absent.jsonl", "nq", "train")
    with pytest.raises(ConfigurationError, match="unknown kind"):
        read_file(write(tmp_path, "a.csv", b"question,answer"), "nq", "train")


def test_a_file_over_the_size_limit_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LARGEST_FILE", 10)

    with pytest.raises(ConfigurationError, match="more than the limit of 10"):
        read_file(write(tmp_path, "a.jsonl", GOOD), "nq", "train")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["question", "answer", "input", "output", "query", "task_name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_row_is_a_question_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
    try:
        (question,) = read_file(path, "nq", "train")
    except DataError:
        return
    assert question.question.strip()
    assert all(answer.strip() for answer in question.answers)
