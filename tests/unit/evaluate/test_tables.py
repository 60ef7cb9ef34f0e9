"""Records that others published: four layouts read without running code, and every method held to the same split."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.evaluate.routers.encoder import Kept
from stages.evaluate.tables.__main__ import chosen, main, text
from stages.evaluate.tables.contest import Score, hold
from stages.evaluate.tables.llmrouter import read_llmrouter
from stages.evaluate.tables.read import read_records_folder
from stages.evaluate.tables.table import RecordTable, Rows
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import EvaluateParams

PARAMS = EvaluateParams(resamples=200, neighbours=3)
PRICES = {"small": {"output_price": 0.1}, "large": {"output_price": 0.9}}


def letters(texts: Sequence[str]) -> np.ndarray:
    vectors = np.array([[("prime" in text) + 0.01, ("verse" in text) + 0.01] for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def entry(number: int, **scores: float) -> dict[str, Any]:
    """The large model knows verses, the small one primes; every third question neither."""
    prime = number % 2 == 0
    known = number % 3 != 0
    found = {"small": float(prime and known), "large": float(not prime and known)} | scores
    return {"question": f"{'prime' if prime else 'verse'} {number}", "scores": found}


def llmrouter(folder: Path, test: Sequence[dict[str, Any]] | None = None, prices: Any = PRICES) -> Path:
    (folder / "train.json").write_text(json.dumps([entry(number) for number in range(60)]))
    (folder / "test.json").write_text(json.dumps(test or [entry(number) for number in range(60, 90)]))
    (folder / "default_llm.json").write_text(json.dumps(prices))
    tasks = [{"query": entry(number)["question"], "task_name": "odd" if number % 2 else "even"} for number in range(90)]
    (folder / "default_query_train.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    return folder


def test_llmrouter_brings_its_own_split_and_prices(tmp_path: Path) -> None:
    table = read_records_folder(llmrouter(tmp_path), seed=7)
    assert (table.source, table.candidates, len(table.train.questions)) == ("LLMRouter", ("small", "large"), 60)
    assert table.test.costs[0].tolist() == [0.1, 0.9]
    assert table.train.scores[1].tolist() == [0.0, 1.0]


def test_a_score_of_the_test_split_that_is_no_number_is_refused(tmp_path: Path) -> None:
    table = read_llmrouter(llmrouter(tmp_path))
    table.test.scores[0, 1] = np.nan
    with pytest.raises(DataError, match=r"a score that is no number, of \w+; correct or remove the row"):
        hold(table, ("knn",), letters, PARAMS)


def test_a_task_can_be_left_out(tmp_path: Path) -> None:
    table = read_llmrouter(llmrouter(tmp_path), without=("odd",))
    assert {text.split()[0] for text in (*table.train.questions, *table.test.questions)} == {"prime"}


def test_llmrouter_with_a_price_or_a_score_missing_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no output_price of large"):
        read_llmrouter(llmrouter(tmp_path, prices={"small": {"output_price": 1}}))
    with pytest.raises(DataError, match=r"test.json, entry 1: no score of large"):
        read_llmrouter(llmrouter(tmp_path, [entry(0), {"question": "q", "scores": {"small": 1.0}}]))


def test_llmrouterbench_takes_the_newest_file_and_questions_that_all_answered(tmp_path: Path) -> None:
    for model, name, score, count in (
        ("a", "2024.json", 0.0, 9),
        ("a", "2025.json", 1.0, 10),
        ("b", "2025.json", 0.0, 12),
    ):
        folder = tmp_path / "aime" / "test" / model
        folder.mkdir(parents=True, exist_ok=True)
        records = [{"origin_query": f"q{number}", "score": score, "cost": 2e-6} for number in range(count)]
        (folder / name).write_text(json.dumps({"records": records}))
    table = read_records_folder(tmp_path, seed=7)
    assert (len(table.train.questions), len(table.test.questions)) == (7, 3)
    assert table.train.scores.tolist() == [[1.0, 0.0]] * 7
    assert table.train.costs.tolist() == [[2.0, 2.0]] * 7
    assert read_records_folder(tmp_path, seed=7).test.questions == table.test.questions
    (tmp_path / "aime/test/b/2026.json").write_text('{"records": [{"origin_query": "q"}]}')
    with pytest.raises(DataError, match=r"2026.json, record 0: no origin_query, score or cost"):
        read_records_folder(tmp_path, seed=7)


def test_routerbench_is_read_from_its_wide_table(tmp_path: Path) -> None:
    lines = ["sample_id,prompt,eval_name,m,m|total_cost,n,n|total_cost,oracle_model_to_route_to"]
    lines += [f"{number},q{number},mmlu,1.0,0.000001,0.0,0.000003,m" for number in range(10)]
    (tmp_path / "routerbench_0shot.csv").write_text("\n".join(lines))
    table = read_records_folder(tmp_path, seed=7)
    assert (table.candidates, len(table.train.questions)) == (("m", "n"), 7)
    assert table.test.costs[0].tolist() == pytest.approx([1.0, 3.0])
    (tmp_path / "routerbench_0shot.csv").write_text("\n".join([*lines, "10,q,mmlu,,0.1,0.0,0.1,m"]))
    with pytest.raises(DataError, match="row 11, column m: no number"):
        read_records_folder(tmp_path, seed=7)


def routerbench(folder: Path) -> Path:
    """The cheap model is right on even questions and says so; the dear one is always right."""
    head = "prompt,m,m|total_cost,m|model_response,n,n|total_cost,n|model_response"
    lines = [f"q{number},{1 - number % 2}.0,1e-6,{('yes', 'no')[number % 2]},1.0,3e-6,yes" for number in range(40)]
    (folder / "routerbench_0shot.csv").write_text("\n".join([head, *lines]))
    return folder


def test_replies_that_were_published_let_the_methods_that_look_take_part(tmp_path: Path) -> None:
    table = read_records_folder(routerbench(tmp_path), seed=7)
    standing = hold(table, ("llm-blender", "frugalgpt", "knn-multi"), letters, PARAMS)
    found = {score.method: score for score in standing.scores}
    assert (found["llm-blender"].accuracy, found["llm-blender"].cost) == (1.0, pytest.approx(4.0))
    assert found["frugalgpt"].accuracy == 1.0
    assert found["frugalgpt"].cost == pytest.approx(found["oracle"].cost + 0.5, abs=0.6), "both calls are paid for"
    assert set(standing.failed) == {"knn-multi"}


def test_a_method_that_a_policy_plays_says_that_it_cannot_take_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standing = hold(read_llmrouter(llmrouter(tmp_path)), ("rag", "knn"), letters, PARAMS)
    assert standing.failed["rag"].startswith("cannot take part: a policy plays it")
    assert "rag  failed: cannot take part" in text(standing)
    assert main([str(tmp_path), "--methods", "knn-mutli"]) == 2
    assert "did you mean knn-multi?" in capsys.readouterr().err


def test_where_there_are_embeddings_alone_a_method_that_reads_texts_cannot_take_part(tmp_path: Path) -> None:
    arrays = {f"{part}_{what}": np.ones((9, 2)) for part in ("train", "test") for what in ("embed", "score")}
    np.savez(tmp_path / "mmlu.npz", **arrays)
    standing = hold(read_records_folder(tmp_path, seed=7), ("llmrank", "bert", "knn"), letters, PARAMS)
    assert set(standing.failed) == {"llmrank", "bert"}
    assert "embeddings in their place" in standing.failed["bert"]


def test_routereval_is_read_from_arrays_with_embeddings_of_its_own(tmp_path: Path) -> None:
    arrays = {"train_embed": np.ones((4, 2)), "train_score": np.eye(4)[:, :3], "test_embed": np.ones((2, 2)),
              "test_score": np.ones((2, 3))}  # fmt: skip
    np.savez(tmp_path / "mmlu.npz", **arrays)
    table = read_records_folder(tmp_path, seed=7)
    assert table.candidates == ("model 0", "model 1", "model 2")
    assert table.history(letters).vectors[0] == pytest.approx([0.5**0.5, 0.5**0.5])
    np.savez(tmp_path / "mmlu.npz", train_embed=np.ones((4, 2)))
    with pytest.raises(DataError, match="no array train_score, test_embed, test_score"):
        read_records_folder(tmp_path, seed=7)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "routerbench_0shot.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigurationError, match="holds pickles, which can run code"):
        read_records_folder(tmp_path, seed=7)
    np.savez(tmp_path / "mmlu.npz", train_embed=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="without running code"):
        read_records_folder(tmp_path, seed=7)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_another_layout_says_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"it wants train.json, test.json and default_llm.json \(LLMRouter\)"):
        read_records_folder(tmp_path, seed=7)
    with pytest.raises(ConfigurationError, match="no such folder"):
        read_records_folder(tmp_path / "nowhere", seed=7)


def test_a_method_that_learns_reaches_what_the_records_allow(tmp_path: Path) -> None:
    standing = hold(read_llmrouter(llmrouter(tmp_path)), ("correctness", "knn"), letters, PARAMS)
    by_name = {score.method: score for score in standing.scores}
    assert by_name["oracle"].accuracy == by_name["correctness"].accuracy == pytest.approx(2 / 3)
    assert by_name["fixed:small"].accuracy == pytest.approx(1 / 3)
    assert by_name["correctness"].aiq > standing.zero_router
    assert standing.scores[0].method == "oracle"


def test_the_oracle_takes_the_cheapest_of_those_that_are_best() -> None:
    rows = Rows(("q",), np.array([[1.0, 1.0]]), np.array([[3.0, 2.0]]))
    standing = hold(RecordTable("made up", ("a", "b"), "units", rows, rows), (), letters, PARAMS)
    assert next(score for score in standing.scores if score.method == "oracle").cost == 2.0


def test_a_method_that_fails_is_named_with_its_reason_and_loses_no_other(tmp_path: Path) -> None:
    standing = hold(read_llmrouter(llmrouter(tmp_path)), ("frugalgpt", "knn"), letters, PARAMS)
    assert "hold scores only" in standing.failed["frugalgpt"]
    assert {"knn", "oracle"} <= {score.method for score in standing.scores}
    assert "frugalgpt  failed: " in text(standing)


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    broken = read_llmrouter(llmrouter(tmp_path))
    broken.train.scores[0, 1] = np.nan
    with pytest.raises(DataError, match="a score that is no number, of large"):
        hold(broken, ("knn",), letters, PARAMS)


def test_vectors_are_kept_and_read_back(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        asked.append(texts)
        return letters(texts)

    for _ in range(2):
        assert (Kept(encode, tmp_path)(["prime", "verse"]) == letters(["prime", "verse"])).all()
    assert len(asked) == 1


def test_an_unknown_method_is_exit_code_2_with_the_closest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--methods", "knn,avengers"]) == 2
    assert "no method is called 'avengers'; did you mean avengers-pro?" in capsys.readouterr().err
    assert not {"frugalgpt", "bert"} & set(chosen(""))
    assert chosen("bert, rag") == ("bert", "rag")


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Score]:
        standing = hold(read_llmrouter(llmrouter(tmp_path)), ("knn", "avengers-pro"), letters, PARAMS)
        return [replace(score, fit_s=0.0, decide_ms=0.0) for score in standing.scores]

    whole = found()
    monkeypatch.setattr("stages.evaluate.tables.contest.CHUNK", 7)
    assert found() == whole
