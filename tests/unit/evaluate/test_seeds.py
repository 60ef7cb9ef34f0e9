"""Several trainings as one result: what may differ, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.evaluate.attempt import Result
from stages.evaluate.episodes import write_episodes
from stages.evaluate.seeds import main
from stages.shared.artifacts import write_manifest
from stages.shared.questions import Question

Make = Callable[..., Result]


@pytest.fixture
def write(tmp_path: Path, questions: tuple[Question, ...], make_result: Make) -> Callable[..., str]:
    """A run whose router is right on the first so many of twelve questions of each set."""

    def run(name: str, right: int, **params: Any) -> str:
        folder = tmp_path / name
        ledger = folder / "artifacts" / "evaluate" / "episodes.parquet"
        ledger.parent.mkdir(parents=True)
        results = [make_result(item, "router", em=float(place % 12 < right)) for place, item in enumerate(questions)]
        write_episodes(ledger, results)
        write_manifest(ledger.parent, "pointsman/evaluate/1")
        given = {"train": {"seed": 7}, "evaluate": {"resamples": 200}} | params
        (folder / "params.yaml").write_text(yaml.safe_dump(given))
        return str(folder)

    return run


def test_the_mean_stands_with_an_interval_over_questions_and_seeds_and_each_seed(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write("a", 6), write("b", 9, train={"seed": 8})]
    assert main([*runs, "--json"]) == 0
    router = json.loads(capsys.readouterr().out)["methods"]["router"]
    assert (router["em"], router["by_run"]) == (0.625, [0.5, 0.75])
    assert router["spread"] == pytest.approx(0.25 / 2**0.5)
    assert router["low"] < 0.5
    assert router["high"] > 0.75
    assert main([*runs, "--name", "first"]) == 0
    assert "| router | 0.625 |" in capsys.readouterr().out


def test_runs_that_differ_in_more_than_their_seeds_are_refused(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write("a", 6), write("b", 9, reward={"mode": "code"})]) == 2
    assert "parameter: reward.mode is (absent) and code" in capsys.readouterr().err
    assert main([write("c", 6)]) == 2
    assert "one run is nothing to pool" in capsys.readouterr().err
