"""Smoke questions: what a channel insists on is asked of the release itself, and what it said is kept as evidence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from stages.publish.gates import POLICY
from stages.publish.manage import main
from stages.publish.smoke import NOT_ASKED

MAYOR = "who is the mayor of zumako"


@pytest.fixture
def insist(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let production insist on questions, each with its answers, in a checkout with one release."""
    monkeypatch.chdir(shop.workspace.root)
    shop.publish(0.5)

    def _write(*smoke: tuple[str, str], gates: tuple[dict[str, Any], ...] = ()) -> None:
        asked = [{"question": question, "answers": [answer]} for question, answer in smoke]
        policy = {"channels": {"production": {"smoke": asked, "gates": list(gates)}}, "other": {}}
        (shop.workspace.root / POLICY).write_text(yaml.safe_dump(policy))

    return _write


def promote(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["promote", "latest", "--to", "production", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_release_that_answers_is_promoted_and_its_answers_are_the_evidence(
    insist: Any, candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    insist((MAYOR, "The mayor is Selim."), (f"insist html {MAYOR}", "no answer comes of this"))
    code, found = promote(capsys, "--dry-run")
    assert (code, [check["passed"] for check in found["evidence"]]) == (1, [True, False])
    assert found["evidence"][0] == {
        "gate": f"asked: {MAYOR}", "wanted": "The mayor is Selim.", "found": candidates.reply, "passed": True,
    }  # fmt: skip
    insist((MAYOR, "The mayor is Selim."))
    code, done = promote(capsys)
    assert (code, done["event"]["evidence"]) == (0, found["evidence"][:1])
    assert any(MAYOR in asked for asked in candidates.asked)


def test_a_release_that_answers_otherwise_is_not_promoted_without_a_reason(
    shop: Any, insist: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    insist((MAYOR, "belane"))
    assert main(["promote", "latest", "--to", "production"]) == 1
    assert f"asked: {MAYOR}: the mayor is selim, not belane" in capsys.readouterr().err
    assert shop.store.entries("channels/") == []
    code, done = promote(capsys, "--override", "belane has resigned")
    event = done["event"]
    assert (code, event["override"], event["evidence"][0]["passed"]) == (0, "belane has resigned", False)


def test_where_another_gate_fails_nobody_is_asked_and_paid(
    insist: Any, candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    insist((MAYOR, "the mayor is selim"), gates=({"metric": "em", "at_least": 0.9},))
    code, found = promote(capsys, "--dry-run")
    assert (code, found["evidence"][-1]["found"]) == (1, NOT_ASKED)
    assert candidates.asked == []


def test_where_no_candidate_can_be_asked_the_evidence_says_why(
    shop: Any, insist: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    away = [each.model_copy(update={"base_url": "http://127.0.0.1:9/v1"}) for each in shop.params.pool.candidates]
    pool = shop.params.pool.model_copy(update={"candidates": tuple(away)})
    shop.params = shop.params.model_copy(update={"pool": pool})
    shop.publish(0.6)
    insist((MAYOR, "the mayor is selim"))
    code, found = promote(capsys, "--dry-run")
    assert (code, found["evidence"][0]["passed"]) == (1, False)
    assert "could not be asked: " in found["evidence"][0]["found"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"question": " ", "answers": ["a"]}, "question"),
        ({"question": "who", "answers": []}, "answers"),
        ({"question": "who", "answer": ["a"]}, "did you mean 'answers'"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(
    shop: Any, insist: Any, capsys: pytest.CaptureFixture[str], asked: dict[str, Any], says: str
) -> None:
    insist()
    policy = {"channels": {"production": {"smoke": [asked]}}, "other": {}}
    (shop.workspace.root / POLICY).write_text(yaml.safe_dump(policy))
    assert main(["promote", "latest", "--to", "production"]) == 2
    assert says in capsys.readouterr().err
