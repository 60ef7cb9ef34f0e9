"""The stage from end to end, and questions asked of a release: real store, real candidates, an untrained policy."""

from __future__ import annotations

import json
import random
import runpy
import shutil
from pathlib import Path

import pytest

from stages.ingest.sandbox import make_questions
from stages.publish import __main__ as stage
from stages.publish.ask import main as ask
from stages.publish.manage import main as manage
from stages.shared import batching
from stages.shared.errors import DataError
from stages.shared.params import Params
from stages.shared.questions import Question, write_questions
from stages.shared.sandbox.world import World
from stages.shared.workspace import Workspace


@pytest.fixture
def question(params: Params) -> Question:
    return make_questions(World.generate(params.world), "nq", "test", 1, random.Random(5))[0]


@pytest.fixture
def published(published_once: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    shutil.copytree(published_once.root, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that asks Arlix the question, and gives its reply back as the answer."""
    scripts = runpy.run_path(str(Path(__file__).with_name("scripted.py")))
    monkeypatch.setattr(batching, "BatchedGenerator", scripts["Scripted"])


def test_the_stage_leaves_a_receipt_without_time_or_place_and_says_the_same_again(
    published: Workspace, folder_params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    path = published.artifacts("publish") / "release.json"
    first, receipt = path.read_bytes(), json.loads(path.read_text())
    assert (receipt["endpoint"], receipt["folder"]) == (None, "store")
    assert receipt["key"] == f"manifests/{receipt['digest']}.json"
    assert receipt["smoke"]["gold"]
    assert json.loads(published.metrics("publish").read_text()) == {
        "digest": receipt["digest"], "files": len(receipt["files"]), "bytes": receipt["bytes"],
    }  # fmt: skip
    capfd.readouterr()
    stage.main(folder_params, published)
    assert path.read_bytes() == first
    assert "was published before" in capfd.readouterr().err


def test_a_release_is_asked_and_shows_what_it_does(
    published: Workspace, question: Question, scripted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask([question.question]) == 0
    shown = capsys.readouterr().out
    assert "synthetic" in shown
    assert "best is Arlix" in shown
    assert f"→ Arlix: {question.question.replace('?', '').strip()}"[:30] in shown
    assert "← " in shown
    assert "1 call, $0.00" in shown


def test_an_episode_as_json_has_costs_and_calls(
    published: Workspace, question: Question, scripted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask([question.question, "--json", "--release", "latest"]) == 0
    record = json.loads(capsys.readouterr().out)
    call = record["turns"][0]["call"]
    assert call["candidate"] == "Arlix"
    assert record["cost"] == call["cost"] > 0
    assert min(record["own_read"], record["own_tokens"]) > 0
    assert record["own_cost"] == pytest.approx((record["own_read"] + record["own_tokens"]) * 3.0e-5)
    assert record["cost_total"] == pytest.approx(call["cost_total"] + record["own_cost"])
    assert call["cost_total"] > record["cost"]
    assert record["answer"]
    assert record["ending"] == "answered"
    assert record["release"] == json.loads((published.artifacts("publish") / "release.json").read_text())["digest"]


def test_the_second_question_needs_no_store(published: Workspace, question: Question, scripted: None) -> None:
    assert ask([question.question]) == 0
    shutil.rmtree(published.root / "store")
    assert ask([question.question]) == 0


def test_a_channel_answers_with_what_it_serves(
    published: Workspace, question: Question, scripted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (published.root / "infra").mkdir()
    (published.root / "infra" / "gates.yaml").write_text("{channels: {}, other: {}}")
    assert ask([question.question, "--release", "production"]) == 2
    assert "no channel 'production'" in capsys.readouterr().err
    assert manage(["promote", "latest", "--to", "production"]) == 0
    capsys.readouterr()
    assert ask([question.question, "--json", "--release", "production"]) == 0
    served = json.loads((published.artifacts("publish") / "release.json").read_text())["digest"]
    assert json.loads(capsys.readouterr().out)["release"] == served


def test_the_embedded_server_keeps_releases_where_no_place_is_named(
    weed: None, workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    stage.main(params, workspace)
    receipt = json.loads((workspace.artifacts("publish") / "release.json").read_text())
    assert (receipt["endpoint"], receipt["folder"]) == (None, None)


def test_a_release_that_changed_on_this_machine_is_not_used(
    published: Workspace, question: Question, scripted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask([question.question]) == 0
    (weights,) = published.state.glob("releases/*/policy/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert ask([question.question]) == 1
    assert "model.safetensors changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([" "], "the question is empty"),
        (["who ?", "--release", "beef"], "names no release"),
        (["who " * 400], "tokens"),
    ],
)
def test_a_question_that_cannot_be_asked_is_a_clear_error(
    published: Workspace, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(arguments) == 2
    assert says in capsys.readouterr().err


def test_a_release_nobody_published_is_a_clear_error(
    weed: None, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.root)
    assert ask(["who ?"]) == 2
    assert "publish one first" in capsys.readouterr().err


def test_without_a_test_question_nothing_is_published(
    params: Params, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    write_questions(workspace.artifacts("ingest") / "validation.parquet", [])
    with pytest.raises(DataError, match="no question"):
        stage.main(params, workspace)
    assert not (workspace.root / "artifacts" / "publish").exists()


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ask(["--help"])
    assert "Ask the published router" in capsys.readouterr().out


def test_the_sandbox_needs_no_path_of_this_machine(published: Workspace) -> None:
    text = (published.artifacts("publish") / "release.json").read_text()
    assert str(Path.home()) not in text
    assert str(published.root) not in text
