"""The hub source, against a real HTTP hub on loopback that speaks the Hugging Face file protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.ingest.sources.hub import HubQuestions
from stages.shared.errors import ConfigurationError, DataError, IntegrityError, TransientError
from stages.shared.params import HubSource

OLD, NEW = "a" * 40, "b" * 40


@dataclass
class Hub:
    """A data set repository with files by revision."""

    files: dict[tuple[str, str], bytes]
    requests: list[str] = field(default_factory=list)
    status: int | None = None
    commit: str | None = None
    """Served instead of the commit that was asked for."""
    url: str = ""


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            hub.requests.append(self.path)
            prefix, _, rest = self.path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            content = hub.files.get((revision, name)) if prefix == "/datasets/org/questions" else None
            status = hub.status or (200 if content is not None else 404)
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound" if revision in (OLD, NEW) else "RevisionNotFound")
            sent = content if status == 200 and content is not None else b""
            self.send_header("X-Repo-Commit", hub.commit or revision)
            self.send_header("ETag", f'"{hashlib.sha256(sent).hexdigest()}"')
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            if body:
                self.wfile.write(sent)

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    return Handler


def lines(*rows: tuple[str, str]) -> bytes:
    flashrag = [{"id": f"x_{i}", "question": q, "golden_answers": [a]} for i, (q, a) in enumerate(rows)]
    return "".join(json.dumps(row) + "\n" for row in flashrag).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(
        {
            (OLD, "nq/train.jsonl"): lines(("old train ?", "1")),
            (NEW, "nq/train.jsonl"): lines(("new train ?", "1"), ("another ?", "2")),
            (NEW, "hotpotqa/dev.jsonl"): lines(("hotpot dev ?", "3")),
            (NEW, "nq/test.jsonl"): b'{"id": "x", "question": "no answer ?"}\n',
        }
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read once, from whoever imported it first
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def source(folder: Path, revision: str = NEW) -> HubQuestions:
    return HubQuestions(HubSource(repo="org/questions", revision=revision), cache=folder / "cache")


def test_reads_flashrags_layout_at_the_pinned_revision(hub: Hub, tmp_path: Path) -> None:
    old, new = (source(tmp_path, revision).questions("nq", "train", 1) for revision in (OLD, NEW))

    assert [q.question for q in old] == ["old train ?"]
    assert [q.question for q in new] == ["new train ?", "another ?"]
    assert {path.split("/")[5] for path in hub.requests if "resolve" in path} == {OLD, NEW}


def test_the_test_split_is_the_one_that_the_parameters_name(hub: Hub, tmp_path: Path) -> None:
    (question,) = source(tmp_path).questions("hotpotqa", "test", 1)

    assert (question.question, question.answers, question.split) == ("hotpot dev ?", ("3",), "test")


def test_a_file_that_was_had_once_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    source(tmp_path).questions("nq", "train", 1)
    asked = len(hub.requests)
    hub.status = 500

    assert len(source(tmp_path).questions("nq", "train", 1)) == 2
    assert len(hub.requests) == asked


def test_a_hub_that_serves_another_commit_is_not_believed(hub: Hub, tmp_path: Path) -> None:
    hub.commit = OLD

    with pytest.raises(IntegrityError, match="another commit"):
        source(tmp_path).questions("nq", "train", 1)


def test_a_malformed_row_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.jsonl, row 1: expected the keys"):
        source(tmp_path).questions("nq", "test", 1)


def test_a_missing_revision_or_file_is_for_the_user_to_correct(hub: Hub, tmp_path: Path) -> None:
    for wrong in (source(tmp_path, "c" * 40), source(tmp_path)):
        with pytest.raises(ConfigurationError, match="the hub answers 404"):
            wrong.questions("popqa", "test", 1)


def test_a_set_without_a_split_is_for_the_user_to_correct(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="train_split names no split for musique"):
        source(tmp_path).questions("musique", "train", 1)


def test_a_hub_that_refuses_or_is_gone_may_be_tried_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 401
    with pytest.raises(ConfigurationError, match="the hub answers 401"):
        source(tmp_path).questions("nq", "train", 1)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(TransientError, match="out of reach"):
        source(tmp_path).questions("nq", "train", 1)


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc123"])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        HubSource(revision=revision)
