"""Finished runs at other prices: by the tokens that were kept, and as far as it goes without them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from stages.evaluate.attempt import Result
from stages.evaluate.diff.__main__ import main
from stages.evaluate.diff.prices import read_prices, reprice
from stages.evaluate.diff.run import TOKENS, read_run
from stages.evaluate.episodes import write_episodes
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError
from stages.shared.questions import Question

Make = Callable[..., Result]
POOL = {"experts": [{"name": "Arlix", "price": 1.0}, {"name": "Bomon", "price": 2.0}]}
NEW = {"Arlix": 3.0, "Bomon": 1.0}


@pytest.fixture
def write(tmp_path: Path, questions: tuple[Question, ...], make_result: Make) -> Callable[..., Path]:
    """A run whose router calls Arlix for 4 tokens and Bomon for 5, and whose `fixed:Arlix` calls it for 4."""

    def run(name: str, *, tokens: bool = True, pool: Any = POOL) -> Path:
        prices = {item["name"]: item["price"] for item in pool["experts"]}
        paid = {"router": 4 * prices["Arlix"] + 5 * prices["Bomon"], "fixed:Arlix": 4 * prices["Arlix"]}
        results = [
            replace(
                make_result(item, method, called=("Arlix", "Bomon")[: 2 - (method != "router")], cost=paid[method]),
                tokens=((9, 4), (9, 5))[: 2 - (method != "router")],
            )
            for method in paid
            for item in questions
        ]
        return save(tmp_path / name, results, pool, tokens=tokens)

    return run


def save(folder: Path, results: Sequence[Result], pool: Any, *, tokens: bool) -> Path:
    ledger = folder / "artifacts" / "evaluate" / "episodes.parquet"
    ledger.parent.mkdir(parents=True)
    write_episodes(ledger, results)
    if not tokens:
        pq.write_table(pq.read_table(ledger).drop_columns([TOKENS]), ledger)
    write_manifest(ledger.parent, "pointsman/evaluate/1")
    (folder / "params.yaml").write_text(yaml.safe_dump({"pool": pool, "evaluate": {"resamples": 50}}))
    return folder


def costs(run: Any) -> dict[str, float]:
    return {name: next(iter(group.values())).cost for name, group in run.methods.items()}


def test_every_call_is_billed_anew_by_its_tokens(write: Callable[..., Path]) -> None:
    run = read_run(write("a"), "a")
    assert costs(run) == {"router": 14.0, "fixed:Arlix": 4.0}
    found = reprice(run, NEW)
    assert (costs(found.run), found.left_out) == ({"router": 17.0, "fixed:Arlix": 12.0}, ())
    assert costs(reprice(found.run, {"Arlix": 1.0, "Bomon": 2.0}).run) == costs(run), "and back"


def test_a_run_without_token_counts_is_billed_as_far_as_its_calls_went_to_one_candidate(
    write: Callable[..., Path],
) -> None:
    found = reprice(read_run(write("old", tokens=False), "old"), NEW)
    assert (costs(found.run), found.left_out) == ({"fixed:Arlix": 12.0}, ("router",))


def test_a_method_that_is_lost_for_want_of_tokens_is_said_so(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, table = str(write("old", tokens=False)), tmp_path / "prices.yaml"
    table.write_text(yaml.safe_dump(NEW))
    assert main([old, old, "--prices", str(table)]) == 2
    assert "evaluated before the tokens of calls were kept, so router has no cost" in capsys.readouterr().err
    assert main([old, old, "--prices", str(table), "--method", "fixed:Arlix"]) == 0
    assert "Left out, since the tokens of their calls were not kept: router of" in capsys.readouterr().out


def test_runs_of_different_prices_can_be_compared_at_one_table(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dearer = {"experts": [{"name": "Arlix", "price": 2.0}, {"name": "Bomon", "price": 2.0}]}
    folders = [str(write("a")), str(write("b", pool=dearer))]
    assert main(folders) == 2
    assert "price: pool.experts[Arlix].price is 1.0 and 2.0" in capsys.readouterr().err
    table = tmp_path / "prices.yaml"
    table.write_text(yaml.safe_dump(NEW))
    assert main([*folders, "--prices", str(table), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["methods"]["router"]["cost_before"], told["methods"]["router"]["cost_after"]) == (17.0, 17.0)
    assert told["forced"] == []
    assert "nobody chose anew" in told["repriced"]


def test_prices_come_from_a_table_or_from_parameters(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    pool = {"kind": "api", "candidates": [{"name": name, "price": price} for name, price in NEW.items()]}
    nested = "Arlix: {price: 3.0}\nBomon: {price: 1, prompt_price: 9}\n"
    for text in ("Arlix: 3\nBomon: 1.0\n", nested, yaml.safe_dump({"pool": pool})):
        path.write_text(text)
        assert read_prices(path) == NEW


@pytest.mark.parametrize(
    ("text", "told"),
    [("Arlix: -1", "price of Arlix is -1"), ("Arlix: .nan", "price of Arlix is nan"), ("Arlix: {}", "Arlix is None"),
     ("Arlix: true", "Arlix is True"), ("[1, 2]", "holds no prices"), ("", "holds no prices"), ("a: [", "not read")],
)  # fmt: skip
def test_what_is_no_price_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        read_prices(path)
    with pytest.raises(ConfigurationError, match="no such file"):
        read_prices(tmp_path / "absent.yaml")


def test_a_candidate_that_was_called_and_has_no_price_is_named(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"no price of Bomon, called in a; is Bomom meant"):
        reprice(read_run(write("a"), "a"), {"Arlix": 1.0, "Bomom": 1.0})
