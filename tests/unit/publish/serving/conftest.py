"""A channel in a folder, signed releases, candidates on loopback, a policy that plays a script, and the server."""

from __future__ import annotations

import asyncio
import json
import runpy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import openai
import pytest
import yaml

from stages.publish.channels import Event
from stages.publish.folder import FolderStore
from stages.publish.gates import POLICY
from stages.publish.memory import Memory
from stages.publish.promotion import Desk, examine, promote, roll_back
from stages.publish.release import assemble, publish
from stages.publish.serving.access import Access
from stages.publish.serving.budget import Budget
from stages.publish.serving.follower import Follower
from stages.publish.serving.options import Options
from stages.publish.serving.server import Listener, _socket, build, run
from stages.publish.signature import load_private_key, make_keys
from stages.shared import batching
from stages.shared.artifacts import write_manifest
from stages.shared.episode.roster import write_descriptors
from stages.shared.params import EpisodeParams, Params, PoolLimits
from stages.shared.params.pool import ApiCandidate, ApiPool
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.workspace import Workspace

CHANNEL = "production"
SCRIPTED = Path(__file__).parents[1] / "scripted.py"
NAMES = ("Arlix", "Bomon")
PRICE, PROMPT_PRICE, PROMPT_TOKENS, COMPLETION_TOKENS = 2.0, 0.5, 100, 50
PLENTY_S = 20.0
EPISODE = EpisodeParams(
    max_calls=4, prompt_tokens=256, response_tokens=512, turn_tokens=128, reply_tokens=64, prompt="compact"
)
"""With room for the script."""


class Candidates(ThreadingHTTPServer):
    """Candidates behind an OpenAI-compatible API; what a query says decides how they behave."""

    daemon_threads = True
    reply = "the mayor is selim"
    html = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    cost_usd = (COMPLETION_TOKENS * PRICE + PROMPT_TOKENS * PROMPT_PRICE) / 1e6
    """Of one call."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gate = threading.Event()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Candidates

    def log_message(self, *_: Any) -> None:
        return None

    def do_GET(self) -> None:
        self._say(200, {"data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        query = body["messages"][-1]["content"]
        self.server.asked.append(query)
        if "bankrupt" in query:
            self._say(402, {"error": {"message": "no credit"}})
            return
        if "wait" in query:
            self.server.gate.wait(PLENTY_S)
        text = self.server.html if "html" in query else self.server.reply
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._say(200, {"choices": [choice], "usage": usage})

    def _say(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="session")
def candidates_once() -> Iterator[Candidates]:
    server = Candidates()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def candidates(candidates_once: Candidates) -> Iterator[Candidates]:
    """They have not been asked; who is to wait waits until `gate` is set, or the test is over."""
    candidates_once.gate.clear()
    candidates_once.asked.clear()
    yield candidates_once
    candidates_once.gate.set()


@dataclass
class Shop:
    """A checkout that publishes to a folder, and promotes."""

    workspace: Workspace
    params: Params
    key: Path

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.workspace.root / "store")

    @property
    def desk(self) -> Desk:
        return Desk(self.store, Memory(self.workspace.state, "store"), self.workspace.root)

    def trust(self, *keys: str | dict[str, str]) -> None:
        """Whose signature the channel wants."""
        path = self.workspace.root / POLICY
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"channels": {CHANNEL: {"signed_by": list(keys)}}, "other": {}}))

    def publish(self, em: float, *, signed: bool = True) -> str:
        """A release whose router has this EM, which tells it from others."""
        path = self.workspace.metrics("evaluate")
        metrics = json.loads(path.read_text())
        metrics["methods"]["router"]["average"]["em"] = em
        path.write_text(json.dumps(metrics))
        release = assemble(self.params, self.workspace)
        publish(release, self.store, signer=load_private_key(self.key) if signed else None)
        return release.manifest.digest

    def promote(self, digest: str, override: str | None = None) -> Event:
        return promote(self.desk, examine(self.desk, digest, CHANNEL), "a test", override)

    def roll_back(self) -> Event:
        return roll_back(self.desk, CHANNEL, "a test")


def with_own_candidates(workspace: Workspace, params: Params, url: str) -> Params:
    """The candidates are ours, and known to the profile."""
    made = [ApiCandidate(name=each, model=each, base_url=url, price=PRICE, prompt_price=PROMPT_PRICE) for each in NAMES]
    pool = ApiPool(candidates=tuple(made), limits=PoolLimits(attempts=1, max_tokens=100))
    skill = {"town": TopicSkill(em=0.9, f1=0.9, n=4)}
    profile = workspace.artifacts("profile")
    write_descriptors(profile / "descriptors.json", [Descriptor(name, PRICE, 0.4, skill) for name in NAMES])
    write_manifest(profile, "pointsman/profile/1")
    return params.model_copy(update={"pool": pool, "episode": EPISODE})


def open_shop_in(workspace: Workspace, params: Params) -> Shop:
    """Nothing is published yet."""
    root = workspace.root
    (root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    make_keys(root / "release.pem")
    shop = Shop(workspace, params, root / "release.pem")
    shop.trust("release.pem.pub")
    return shop


@pytest.fixture
def own_episode() -> EpisodeParams:
    return EPISODE


@pytest.fixture
def open_shop() -> Callable[[Workspace, Params], Shop]:
    return open_shop_in


@pytest.fixture(scope="module")
def _scripted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "BatchedGenerator", runpy.run_path(str(SCRIPTED))["Scripted"])
        yield


@pytest.fixture
def shop(workspace: Workspace, folder_params: Params, candidates: Candidates, _scripted: None) -> Shop:
    return open_shop_in(workspace, with_own_candidates(workspace, folder_params, candidates.url))


@dataclass
class Running:
    """A server that runs, in a thread and an event loop of its own."""

    url: str
    follower: Follower
    key: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=PLENTY_S, headers={"Authorization": f"Bearer {self.key}"})

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, timeout=PLENTY_S)

    def ask(self, question: str, **options: Any) -> Any:
        """A plain completion."""
        given: dict[str, Any] = {"model": CHANNEL, **options}
        return self.openai().chat.completions.create(messages=[{"role": "user", "content": question}], **given)

    def metric(self, name: str, **labels: str) -> float:
        """A sample that Prometheus would read; 0 where there is none yet."""
        return self.follower._metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def serving(shop: Shop, key: str | None = None, **options: Any) -> Iterator[Running]:
    """Serve the shop's channel on a free port, as `stages.publish.serving.server.serve` does but for signals."""
    given = Options(**{"channel": CHANNEL, "port": 0, "poll_s": 0.05, "grace_s": 5.0, **options})
    path = shop.workspace.state / "serving" / f"{CHANNEL}.json"
    with Budget(given.budget_usd, path) as budget, _socket(given) as listening:
        url = f"http://{given.host}:{listening.getsockname()[1]}"
        made: list[tuple[Listener, Follower]] = []
        ready = threading.Event()

        async def _life() -> None:
            made.append(build(given, shop.desk, Access(key, given.host), budget))
            await run(*made[0], listening, ready.set)

        with ThreadPoolExecutor(1) as thread:
            life = thread.submit(asyncio.run, _life())
            life.add_done_callback(lambda _: ready.set())
            assert ready.wait(60)
            try:
                if not life.done():
                    with Running(url, made[0][1], key or "no key") as running:
                        yield running
            finally:
                for listener, _ in made:
                    listener.should_exit = True
                life.result(60)


@pytest.fixture
def serve(shop: Shop) -> Callable[..., AbstractContextManager[Running]]:
    """Serve the channel of `shop`, with options of `pointsman serve`."""
    return lambda **options: serving(shop, **options)


@pytest.fixture(scope="module")
def server(
    folder_params: Params, policy: Path, filled: Callable[..., Workspace], candidates_once: Candidates, _scripted: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:  # fmt: skip
    """A server of one signed release that a module's tests share: to load one costs more than to ask it."""
    workspace = filled(Workspace(tmp_path_factory.mktemp("served")), folder_params, policy)
    shop = open_shop_in(workspace, with_own_candidates(workspace, folder_params, candidates_once.url))
    shop.promote(shop.publish(0.5))
    with serving(shop) as running:
        yield running
