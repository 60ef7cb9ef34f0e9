"""Training that joins a Ray cluster: two nodes on loopback, started by `ray start`, each with a token that both know.

Takes a minute or two: run where POINTSMAN_TEST_CLUSTER is set (`make test-cluster`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.shared.errors import PipelineError
from stages.shared.params import TinyPolicy
from stages.shared.pool.candidate import Descriptor
from stages.shared.questions import Question
from stages.train.ppo.record import read_records
from stages.train.ppo.stage import Inputs, ppo
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POINTSMAN_TEST_CLUSTER"), reason="takes minutes: make test-cluster"),
]
RAY = Path(sys.executable).with_name("ray")
PATIENCE_S = 120
NODE = (
    "--block", "--node-ip-address=127.0.0.1", "--num-cpus=8", "--num-gpus=1", "--object-store-memory=200000000",
    "--disable-usage-stats",
)  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """Nodes that answer at `address` to those who know the token."""

    address: str
    token: Mapping[str, str]


@contextlib.contextmanager
def node(*arguments: str, environment: Mapping[str, str]) -> Iterator[None]:
    """A node of a cluster, in a process group of its own; all of it ends with the context."""
    command = [str(RAY), "start", *arguments, *NODE]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="pm", ignore_cleanup_errors=True) as place:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        head = ("--head", f"--port={port}", f"--temp-dir={place}", "--include-dashboard=false")
        with node(*head, environment=token):
            until(lambda: nodes(address, token) == 1)
            with node(f"--address={address}", environment=token):
                until(lambda: nodes(address, token) == 2)
                yield Cluster(address, token)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def nodes(address: str, token: Mapping[str, str]) -> int:
    """How many nodes of the cluster live, as Ray's own command says."""
    command = [str(RAY), "status", f"--address={address}"]
    told = subprocess.run(command, env={**os.environ, **token}, capture_output=True, text=True, check=False)
    return told.stdout.count("1 node_")


def test_a_run_joins_a_cluster_that_is_there_and_leaves_it_as_it_was(
    cluster: Cluster, profile: Any, questions: list[Question], tmp_path: Path
) -> None:
    assert joined(cluster.address, cluster.token, profile, questions, tmp_path) in (1, 2)
    records = read_records(tmp_path / "run")
    assert [record.step for record in records if record.phase == "train"] == [1, 2]
    assert nodes(cluster.address, cluster.token) == 2


def test_without_the_token_it_is_refused_before_anything_trains(
    cluster: Cluster, profile: Any, questions: list[Question], tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=r"(?i)token"):
        joined(cluster.address, {}, profile, questions, tmp_path)
    assert read_records(tmp_path / "run") == []


def joined(address: str, token: Mapping[str, str], profile: Any, questions: list[Question], place: Path) -> int:
    """The best step of a run of two on the cluster, with a random tiny policy and what is known of the token."""
    params = profile("smoke", steps=2, questions=4, mini_batch=4, micro_batch=2, save_every=1, validate_every=2)
    train = params.train.model_copy(update={"ray_address": address, "nodes": 2})
    words = build_tokenizer()
    model = build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    model.save_pretrained(place / "policy")
    words.save_pretrained(place / "policy")
    (place / "run").mkdir()
    seen = tuple(Descriptor(expert.name, expert.price, 0.5) for expert in params.pool.experts if expert.seen)
    inputs = Inputs(questions, questions[:3], seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, value in token.items():
            patch.setenv(name, value)
        run = params.model_copy(update={"train": train}), place / "policy", inputs, place / "run"
        return ppo(*run, place / ".pointsman")
