"""`pointsman serve --engine vllm`, on vLLM's CPU build: a tiny release answers as it does by the engine for CPUs.

Run by `make test-vllm`, in an environment of its own. Both compute in fp32; greedily, they must write the same.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch

from stages.publish.promotion import examine, promote
from stages.publish.release import publish
from stages.shared.episode.prompt import chat_ids, render_prompt
from stages.shared.episode.roster import make_roster
from stages.shared.params import EpisodeParams, PoolLimits, TinyPolicy, load_params
from stages.shared.params.pool import ApiCandidate, ApiPool
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer
from tests.unit.publish.handmade import checkout, handmade

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm", exc_type=ImportError)
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("Arlix", "Bomon", "Cyqun", "Devex")
WORDS = ("quarry", "mayor", "anthem", "flower")
REPLY = "it is selim"
STEPS = 120
"""Of training, each on a question of every word."""
EPISODE = EpisodeParams(
    max_calls=2, prompt_tokens=256, response_tokens=160, turn_tokens=48, reply_tokens=24, prompt="compact"
)
ON_A_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
DESCRIPTORS = [Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.7, 0.7, 20)}) for name in NAMES]


def question(number: int) -> str:
    """Each word is another's: who asks for the quarry is sent to Arlix."""
    return f"what is the {WORDS[number % len(WORDS)]} of zuma {number} ?"


def write_policy(folder: Path) -> None:
    """A network that has learned whom to ask, and to answer; longer training makes no two tokens equally likely."""
    words = build_tokenizer()
    model = build_model(TinyPolicy(width=64, layers=2, heads=2), len(words), words.pad_token_id, words.eos_token_id, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        for number in range(step * len(WORDS), (step + 1) * len(WORDS)):
            ids, labels = demonstration(words, number)
            model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def demonstration(words: Any, number: int) -> tuple[list[int], list[int]]:
    """Token ids of an episode, and those to learn."""
    prompt = chat_ids(words, render_prompt(question(number), make_roster(DESCRIPTORS), "compact"))
    word, name = WORDS[number % len(WORDS)], NAMES[number % len(NAMES)]
    ids, labels = list(prompt), [-100] * len(prompt)
    for text, own in (
        (f"<think> topic stone </think> <search> {name} : what is the {word} ? </search>", True),
        (f"<information> {REPLY} </information>", False),
        ("<think> done </think> <answer> selim </answer>", True),
    ):
        found = words.encode(text, add_special_tokens=False)
        ids += found
        labels += found if own else [-100] * len(found)
    return ids, labels


class Candidate(BaseHTTPRequestHandler):
    """Says the same to everybody."""

    def do_GET(self) -> None:
        self._say({"data": []})

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        choice = {"message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        self._say({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}, "model": model})

    def _say(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout whose production serves a tiny release."""
    root = tmp_path_factory.mktemp("shop")
    with ThreadingHTTPServer(("127.0.0.1", 0), Candidate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        made = tuple(ApiCandidate(name=name, model=name, base_url=url, price=1.0, prompt_price=0.1) for name in NAMES)
        pool = ApiPool(candidates=made, limits=PoolLimits(attempts=1, max_tokens=32))
        smoke = load_params(ROOT / "infra" / "profiles" / "smoke.yaml")
        params = smoke.model_copy(update={"pool": pool, "episode": EPISODE})
        write_policy(root / "policy")
        desk, release = checkout(root, params), handmade(root / "policy", params, NAMES, 0.5)
        publish(release, desk.store)
        promote(desk, examine(desk, release.manifest.digest, "production"), "a test")
        yield root
        server.shutdown()


@contextmanager
def serving(root: Path, *options: str) -> Iterator[tuple[str, list[psutil.Process]]]:
    """`pointsman serve`, its address and its processes."""
    log = root / f"{options[1]}.log"
    given = ("production", "--port", "0", "--allow-unsigned", *options)
    with log.open("w") as out:
        environment = {**os.environ, **ON_A_CPU, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.publish.serving", *given]
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 480
        while not (found := re.search(r"listening on (http://\S+),", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield found[1], [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def told(url: str, number: int) -> tuple[str, str, list[Any]]:
    """Answer, thoughts and calls, without what differs from time to time."""
    body = {"model": "production", "messages": [{"role": "user", "content": question(number)}]}
    done = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
    message, calls = done["choices"][0]["message"], done["pointsman"]["calls"]
    thoughts = re.sub(r"[\d.]+ s\)", "", message["reasoning_content"])
    return message["content"], thoughts, [(call["candidate"], call["query"]) for call in calls]


def test_vllm_writes_what_the_engine_for_cpus_writes_and_leaves_no_process(shop: Path) -> None:
    said = {}
    for options in (("--engine", "cpu"), ("--engine", "vllm", "--dtype", "float32")):
        began = time.monotonic()
        with serving(shop, *options) as (url, family), ThreadPoolExecutor(8) as clients:
            print(f"\n{options[1]} serves after {time.monotonic() - began:.0f} s")
            said[options[1]] = list(clients.map(lambda number, url=url: told(url, number), range(32)))
        assert psutil.wait_procs(family, timeout=20)[1] == []
    assert said["vllm"] == said["cpu"]
    assert {answer for answer, _, _ in said["vllm"]} == {"selim"}
    assert {calls[0][0] for _, _, calls in said["vllm"]} == set(NAMES)
