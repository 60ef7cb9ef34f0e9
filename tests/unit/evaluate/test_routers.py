"""The single-call baselines choose by their rule, and learn from profiling records only."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.evaluate.records import Record, read_records
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.encoder import minilm
from stages.evaluate.routers.fixed import fixed, largest
from stages.evaluate.routers.knn import fit_knn
from stages.shared.errors import DataError
from stages.shared.pool.candidate import Candidate
from stages.shared.questions import Question

ROOT = Path(__file__).resolve().parents[3]


def candidate(name: str, price: float) -> Candidate:
    return Candidate(name, name, "http://127.0.0.1:1/v1", price, 0.1)


def question(text: str) -> Question:
    return Question(text, ("gold",), "nq", "test")


def letters(texts: Sequence[str]) -> np.ndarray:
    """A toy encoder: which of two words a text holds."""
    vectors = np.array([[("quarry" in text) + 0.01, ("composer" in text) + 0.01] for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


RECORDS = [
    Record(f"what is the {word} of {index} ?", name, contains=(name == knows), cost=1.0 if name == "Arlix" else 2.0)
    for word, knows in (("quarry", "Arlix"), ("composer", "Bomon"))
    for index in range(6)
    for name in ("Arlix", "Bomon")
]


def test_a_fixed_candidate_gets_every_question() -> None:
    assert fixed(candidate("Arlix", 1)).choose([question("a"), question("b")]) == ["Arlix", "Arlix"]


def test_the_largest_is_the_most_expensive() -> None:
    router = largest([candidate("Arlix", 0.6), candidate("Fitus", 1.2), candidate("Bomon", 0.4)])
    assert (router.method, router.candidate) == ("largest-llm", "Fitus")


def test_random_is_uniform_repeatable_and_blind_to_the_order_of_questions() -> None:
    router = RandomRouter(("a", "b", "c", "d"), seed=7)
    asked = [question(f"question {index}") for index in range(2000)]
    choices = router.choose(asked)
    assert router.choose(asked[::-1]) == choices[::-1]
    assert all(abs(count / 2000 - 0.25) < 0.04 for count in Counter(choices).values())
    assert RandomRouter(("a", "b", "c", "d"), seed=8).choose(asked) != choices


def test_knn_chooses_who_did_best_on_similar_questions() -> None:
    router = fit_knn(RECORDS, ("Arlix", "Bomon"), letters, neighbours=4)
    assert router.choose([question("the quarry of x ?"), question("the composer of y ?")]) == ["Arlix", "Bomon"]


def test_knn_takes_the_cheaper_where_both_did_the_same() -> None:
    tied = [Record(item.question, item.candidate, True, item.cost) for item in RECORDS]
    assert fit_knn(tied, ("Bomon", "Arlix"), letters, 4).choose([question("the quarry of x ?")]) == ["Arlix"]


def test_knn_leaves_out_candidates_that_are_not_in_the_pool_and_calls_that_failed() -> None:
    extra = [Record(item.question, "Guvex", True, 0.1) for item in RECORDS if item.candidate == "Arlix"]
    failed = [Record("what is the quarry of 99 ?", "Bomon", False, 0.0, failed=True)]
    router = fit_knn([*RECORDS, *extra, *failed], ("Arlix", "Bomon"), letters, 4)
    assert set(router.candidates) == {"Arlix", "Bomon"}
    assert router.scores.shape == (12, 2)


def test_knn_without_a_single_complete_question_says_so() -> None:
    with pytest.raises(DataError, match="run the profile stage again"):
        fit_knn(RECORDS[:1], ("Arlix", "Bomon"), letters, 4)


def test_the_encoder_works_offline_and_finds_the_paraphrase_nearest() -> None:
    one, same, other = minilm(["who composed the song ?", "the composer of the song", "the price of stone"])
    assert one @ same > one @ other
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)


def test_records_are_read_from_the_profile(tmp_path: Path) -> None:
    rows = [
        {"question": "q ?", "candidate": "Arlix", "outcome": "answered", "contains": 1.0, "cost": 2.0},
        {"question": "q ?", "candidate": "Bomon", "outcome": "timed-out", "contains": None, "cost": 0.0},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet") == [
        Record("q ?", "Arlix", True, 2.0), Record("q ?", "Bomon", False, 0.0, failed=True),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"no table"])
def test_records_that_cannot_be_read_point_to_the_profile_stage(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "records.parquet").write_bytes(content)
    with pytest.raises(DataError, match="run the profile stage"):
        read_records(tmp_path / "records.parquet")


def test_what_a_router_is_fitted_on_has_no_way_to_the_test_questions() -> None:
    for path in [*(ROOT / "stages/evaluate/routers").glob("*.py"), ROOT / "stages/evaluate/records.py"]:
        names = [node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
        assert "read_questions" not in names, path
