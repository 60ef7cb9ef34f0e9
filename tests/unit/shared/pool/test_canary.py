"""Whether candidates are still those that were profiled, asked of a real endpoint on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.shared.errors import DataError
from stages.shared.params import Params, parse_params
from stages.shared.pool.canary import Reading, choose, look
from stages.shared.pool.instruction import sub_question
from stages.shared.workspace import Workspace

ROOT = Path(__file__).resolve().parents[4]
QUESTIONS = [f"question {index}?" for index in range(6)]


class Endpoint:
    """Answers a question with `answers[question]`, as `model`, and lists models at `listed` prices."""

    def __init__(self) -> None:
        self.answers = {question: f"The answer {index}." for index, question in enumerate(QUESTIONS)}
        self.model, self.asked = "model-1", 0
        self.entry: dict[str, Any] = {"id": "model-1"}
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply({"data": [endpoint.entry]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.asked += 1
                text = endpoint.answers[sub_question(body["messages"][-1]["content"])]
                choice = {"message": {"content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 3, "completion_tokens": 2}
                self.reply({"model": endpoint.model, "choices": [choice], "usage": usage})

            def reply(self, value: Any) -> None:
                text = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def parameters(url: str) -> Params:
    raw = yaml.safe_load((ROOT / "infra/profiles/smoke.yaml").read_text())
    candidate = {"name": "a", "model": "model-1", "base_url": url, "price": 2.0, "prompt_price": 0.5}
    raw["pool"] = {"kind": "api", "candidates": [candidate], "limits": {"attempts": 1, "timeout_s": 5.0}}
    raw["ingest"]["source"] = {"kind": "files", "folder": "x", "train": {"nq": "t"}, "test": {"nq": "e"}}
    return parse_params(raw, "smoke.yaml")


def write_profile(root: Path, replies: list[str | None]) -> Path:
    """The columns of the profile's records that canaries are chosen from."""
    path = root / "artifacts/profile/records.parquet"
    path.parent.mkdir(parents=True)
    rows = [{"candidate": "a", "question": q, "reply": r} for q, r in zip(QUESTIONS, replies, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def workspace(tmp_path: Path, endpoint: Endpoint) -> Workspace:
    """With the profile of the endpoint as it answers now."""
    write_profile(tmp_path, [endpoint.answers[question] for question in QUESTIONS])
    return Workspace(tmp_path)


def read(endpoint: Endpoint, workspace: Workspace, count: int = 6) -> Reading:
    (reading,) = look(parameters(endpoint.url), workspace, count)
    return reading


def test_a_candidate_that_answers_as_it_did_has_not_drifted(endpoint: Endpoint, workspace: Workspace) -> None:
    endpoint.answers = {question: text.upper().rstrip(".") for question, text in endpoint.answers.items()}
    found = read(endpoint, workspace)
    assert (found.asked, found.same, found.drifted(1.0)) == (6, 6, False)
    assert [finding.state for finding in found.findings(1.0)] == ["good"]


def test_a_candidate_that_answers_otherwise_has_drifted(endpoint: Endpoint, workspace: Workspace) -> None:
    for question in QUESTIONS[:4]:
        endpoint.answers[question] = "something else"
    found = read(endpoint, workspace)
    assert found.same == 2
    assert found.drifted(0.5)
    assert not found.drifted(0.3)
    assert "2 of 6" in found.findings(0.5)[0].found


def test_a_candidate_that_answers_as_another_model_has_drifted(endpoint: Endpoint, workspace: Workspace) -> None:
    endpoint.model = "cheaper-model"
    found = read(endpoint, workspace, 2)
    assert found.drifted(0.0)
    assert "cheaper-model" in found.findings(0.0)[0].found


def test_one_that_is_not_there_is_wrong_but_has_not_drifted(endpoint: Endpoint, workspace: Workspace) -> None:
    endpoint.server.shutdown()
    endpoint.server.server_close()
    found = read(endpoint, workspace, 2)
    assert not found.drifted(1.0)
    assert found.findings(1.0)[0].state == "wrong"


def test_a_listed_price_that_is_not_the_one_that_is_set_is_told(endpoint: Endpoint, workspace: Workspace) -> None:
    endpoint.entry = {"id": "model-1", "pricing": {"prompt": "0.0000005", "completion": "0.000002"}}
    assert len(read(endpoint, workspace, 1).findings(0.5)) == 1
    endpoint.entry["pricing"]["completion"] = "0.000003"
    found = read(endpoint, workspace, 1).findings(0.5)[1]
    assert (found.name, found.state) == ("a, price", "wrong")
    assert "listed at 3 (prompt 0.5)" in found.found


def test_every_look_asks_and_pays_anew(endpoint: Endpoint, workspace: Workspace) -> None:
    read(endpoint, workspace, 2)
    read(endpoint, workspace, 2)
    assert endpoint.asked == 4
    assert len(list(workspace.runs("ledger").glob("watch-*.jsonl"))) == 2


def test_the_same_questions_are_chosen_each_time_and_only_answered_ones(tmp_path: Path) -> None:
    path = write_profile(tmp_path, ["x", None, "x", "x", None, "x"])
    chosen = choose(path, 3)["a"]
    assert chosen == choose(path, 4)["a"][:3]
    assert not {canary.question for canary in choose(path, 9)["a"]} & {QUESTIONS[1], QUESTIONS[4]}


def test_without_a_profile_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pointsman run"):
        choose(tmp_path / "records.parquet", 3)
