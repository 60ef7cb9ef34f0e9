"""The stage, end to end over real HTTP."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from stages.profile.__main__ import main
from stages.profile.records import SCHEMA
from stages.shared.artifacts import verify_manifest, write_manifest
from stages.shared.episode.roster import read_descriptors
from stages.shared.errors import ConflictError, IntegrityError, TransientError
from stages.shared.params import Params, WorldParams
from stages.shared.pool.ledger import FOLDER, Place, open_ledger
from stages.shared.pool.setting import setting
from stages.shared.questions import Question, SubQuestion, write_questions
from stages.shared.sandbox.language import draw_wording, phrase, phrase_parts
from stages.shared.sandbox.world import Ask, World
from stages.shared.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


def profiling_questions() -> list[Question]:
    world, rng = World.generate(WorldParams(entities=60)), random.Random(1)
    asks = [Ask("chain", ("stone-quarry",), (entity.name,)) for entity in world.entities("stone")[:12]]
    asks += [Ask("chain", ("stone-quarry", "town-mayor"), (entity.name,)) for entity in world.entities("stone")[:12]]
    return [to_question(world, ask, rng) for ask in asks]


def to_question(world: World, ask: Ask, rng: random.Random) -> Question:
    dataset = "nq" if ask.hops == 1 else "hotpotqa"
    wording = draw_wording(ask, dataset, rng)
    pieces = phrase_parts(world, ask, wording) if ask.hops > 1 else []
    parts = tuple(SubQuestion(text, world.answer(part), part.topic) for part, text in pieces)
    text = phrase(ask, dataset, rng, wording)
    return Question(text, world.answer(ask), dataset, "profiling", ask.topic, ask.hops, parts)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A repository whose ingest stage has run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts" / "ingest"
    write_questions(folder / "profiling.parquet", profiling_questions())
    write_manifest(folder, "pointsman/questions/1")
    return Workspace(tmp_path)


def test_every_candidate_is_measured_seen_and_unseen(workspace: Workspace, make_params) -> None:
    main(make_params(), workspace)

    folder = workspace.artifacts("profile")
    verify_manifest(folder, "pointsman/profile/1")
    records = pq.read_table(folder / "records.parquet")
    assert records.schema.equals(SCHEMA)
    assert records.num_rows == 3 * (12 + 12 * 3)
    assert {(row["candidate"], row["seen"]) for row in records.to_pylist()} == {
        ("Arlix", True),
        ("Bomon", True),
        ("Guvex", False),
    }

    arlix, bomon, guvex = read_descriptors(folder / "descriptors.json")
    assert arlix.skill["stone"].em > 0.6 > bomon.skill["stone"].em
    assert bomon.skill["town"].em > 0.6 > guvex.skill["town"].em
    assert not guvex.seen

    metrics = json.loads(workspace.metrics("profile").read_text())
    assert metrics["failures"] == {}
    assert (
        metrics["candidates"]["Arlix"]["by_set"]["hotpotqa"]["em"]
        < metrics["candidates"]["Arlix"]["by_set"]["nq"]["em"]
    )


def test_a_second_measurement_says_the_same_to_the_byte(workspace: Workspace, make_params) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in workspace.artifacts("profile").iterdir()}

    main(make_params(), workspace)
    first = files()
    main(make_params(), workspace)

    assert files() == first


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_run_that_is_killed_goes_on_where_it_stopped_and_pays_for_no_answer_twice(
    workspace: Workspace, make_params, temperature: float
) -> None:
    write_params(workspace, slow(make_params, temperature))
    process = start(workspace)
    kept = wait_for_replies(workspace, 10)
    process.kill()
    process.wait(10)

    write_params(workspace, slow(make_params, temperature, time_scale=0.0))
    again = start(workspace)
    _, stderr = again.communicate(timeout=60)

    assert again.returncode == 0, stderr
    told = next(line for line in stderr.splitlines() if "answers used again" in line)
    assert int(told.split("; ")[-1].split()[0]) >= kept >= 10
    answered = Counter(call for call, reply in paid(workspace) if reply["outcome"] == "answered")
    assert set(answered.values()) == {1}


def test_ctrl_c_says_that_nothing_is_lost(workspace: Workspace, make_params) -> None:
    write_params(workspace, slow(make_params))
    process = start(workspace)
    wait_for_replies(workspace, 5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "nothing is lost" in stderr
    assert "Traceback" not in stderr
    assert not workspace.artifacts("profile").exists()


def test_two_profiles_of_the_same_candidates_do_not_pay_for_the_same_answers(workspace: Workspace, make_params) -> None:
    params = make_params()
    place = Place(workspace.runs(FOLDER), "profile", setting(params.pool, params.world))
    with open_ledger(place, params.pool.limits.budget, alone=True), pytest.raises(ConflictError, match="wait for it"):
        main(params, workspace)


def slow(make_params, temperature: float = 0.0, time_scale: float = 0.25) -> Params:
    pool = make_params().pool.model_dump(mode="json")
    limits = {"concurrency": 6, "temperature": temperature}
    return make_params(pool={**pool, "time_scale": time_scale, "limits": limits})


def write_params(workspace: Workspace, params: Params) -> None:
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))


def start(workspace: Workspace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stages.profile"]
    return subprocess.Popen(command, cwd=workspace.root, env={"PYTHONPATH": str(ROOT), "PATH": ""}, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def paid(workspace: Workspace) -> list[tuple[str, dict[str, object]]]:
    """What was asked, digested, and what came back, of every attempt that ended."""
    lines = (path.read_text().split("\n")[:-1] for path in workspace.runs(FOLDER).glob("*.jsonl"))
    rows = [json.loads(line) for each in lines for line in each]
    calls = {row["begin"]: row["call"] for row in rows if "begin" in row}
    return [(calls[row["end"]], row["reply"]) for row in rows if "end" in row]


def wait_for_replies(workspace: Workspace, count: int) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        kept = sum(reply["outcome"] == "answered" for _, reply in paid(workspace))
        if kept >= count:
            return kept
        time.sleep(0.02)
    raise AssertionError("no replies came")


def test_an_endpoint_that_does_not_answer_is_named_before_anything_is_asked(workspace: Workspace, make_params) -> None:
    candidate = {
        "name": "Gone",
        "model": "gone",
        "base_url": "http://127.0.0.1:9/v1",
        "price": 1.0,
        "prompt_price": 0.1,
    }
    params = make_params(pool={"kind": "api", "candidates": [candidate], "limits": {"attempts": 1}})

    with pytest.raises(TransientError, match="Gone"):
        main(params, workspace)

    assert not workspace.artifacts("profile").exists()


def test_tampered_questions_are_not_profiled_on(workspace: Workspace, make_params) -> None:
    write_questions(workspace.artifacts("ingest") / "profiling.parquet", profiling_questions()[:3])

    with pytest.raises(IntegrityError, match=r"profiling\.parquet: content changed"):
        main(make_params(), workspace)
