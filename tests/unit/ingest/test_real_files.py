"""The real question files, where they are at hand: every form is read, and the known overlap is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.ingest.sources.files import FileQuestions
from stages.ingest.splits import draw_splits
from stages.shared.params import FilesSource

TRAIN = {
    "nq": "qa/nq/NQ-open.efficientqa.dev.1.1.jsonl",
    "hotpotqa": "qa/hotpotqa/r1searcher_train_stage2_hotpot_2wiki.jsonl",
    "popqa": "qa/popqa/model_collaboration_popqa.json",
    "triviaqa": "routing/llmrouter/default_query_train.jsonl",
}
TEST = {
    "nq": "qa/nq/NQ-open.dev.jsonl",
    "triviaqa": "routing/llmrouter/default_query_test.jsonl",
    "popqa": "qa/popqa/model_collaboration_popqa.json",
    "hotpotqa": "qa/hotpotqa/react_hotpot_dev_v1_simplified.json",
    "2wikimultihopqa": "qa/2wikimultihopqa/r1searcher_2wiki_500.jsonl",
    "musique": "qa/musique/r1searcher_musique_500.jsonl",
    "bamboogle": "qa/bamboogle/r1searcher_bamboogle.jsonl",
}


@pytest.fixture
def source(real_data: Path) -> FilesSource:
    return FilesSource(folder=str(real_data), train=TRAIN, test=TEST)


@pytest.mark.parametrize(
    "dataset, split, rows",
    [("nq", "train", 1800), ("nq", "test", 3610), ("hotpotqa", "train", 8148), ("hotpotqa", "test", 7405),
     ("2wikimultihopqa", "test", 500), ("musique", "test", 500), ("bamboogle", "test", 125), ("popqa", "train", 1000),
     ("popqa", "test", 1000), ("triviaqa", "train", 500), ("triviaqa", "test", 50)],
)  # fmt: skip
def test_every_row_of_every_file_is_read(source: FilesSource, dataset: str, split: str, rows: int) -> None:
    assert len(FileQuestions(source).questions(dataset, split, 1)) == rows


def test_the_test_splits_are_500_a_set_and_bamboogle_whole(source: FilesSource, params) -> None:
    draw = draw_splits(FileQuestions(source), params(train=100, test=500, train_on=("nq", "hotpotqa")))

    counts = {name: sum(q.dataset == name for q in draw.splits["test"]) for name in TEST}
    assert counts == {**dict.fromkeys(TEST, 500), "triviaqa": 50, "bamboogle": 125}
    assert draw.overlaps == 0


def test_popqas_shared_questions_are_taken_out_of_training(source: FilesSource, params) -> None:
    draw = draw_splits(FileQuestions(source), params(train=900, test=500, train_on=("popqa",)))

    assert draw.overlaps == 20
    assert draw.duplicates == 11 + 7
