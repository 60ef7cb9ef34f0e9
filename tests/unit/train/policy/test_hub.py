"""A policy from a hub, against a hub on loopback that counts what is asked of it."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.shared.params import HubPolicy

REPO, COMMIT = "someone/small-model", "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 100,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}"}',
    "pytorch_model.bin": b"a pickle",
    "modeling_special.py": b"print('run me')",
    "README.md": b"# small",
}


class Hub(BaseHTTPRequestHandler):
    """The part of a hub's protocol that a snapshot at a commit needs."""

    files = FILES
    status = 200
    asked: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path}")
        if self.status != 200:
            return self.reply(self.status, b"{}")
        if self.path.startswith(f"/api/models/{REPO}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.files]
            return self.reply(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode())
        if self.path.startswith(f"/api/models/{REPO}/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in self.files.items()
            ]
            return self.reply(200, json.dumps(tree).encode())
        name = self.path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
        if name in self.files:
            return self.reply(200, self.files[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    """Start a hub that has `files`, or always answers `status`; gives its address and what was asked."""
    servers = []

    def start(files=FILES, status=200):
        handler = type("TestHub", (Hub,), {"files": files, "status": status, "asked": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}", handler.asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


PROGRAM = f"""
import sys
from pathlib import Path
from stages.shared.errors import PipelineError
from stages.shared.params import HubPolicy
from stages.train.policy.base import base_policy
try:
    print(base_policy(HubPolicy(repo={REPO!r}, revision={COMMIT!r}), Path(sys.argv[1]), 7))
except PipelineError as error:
    print(f"{{error.kind}}: {{error}}")
"""


def fetch(endpoint, tmp_path, **more) -> str:
    """What a fresh process says, since the hub's client reads its environment once."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", **more}  # fmt: skip
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_weights_come_as_safetensors_with_the_tokenizer_and_nothing_else(hub, tmp_path):
    endpoint, asked = hub()
    folder = Path(fetch(endpoint, tmp_path))
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not any("pytorch_model" in line or "modeling" in line for line in asked)


def test_a_second_run_fetches_no_file_again(hub, tmp_path):
    endpoint, asked = hub()
    first = fetch(endpoint, tmp_path)
    asked.clear()
    assert fetch(endpoint, tmp_path) == first
    assert not any(line.startswith("GET /someone") for line in asked)


@pytest.mark.parametrize(
    "status, said",
    [(401, "configuration: .*may not be read; accept its licence"), (404, "configuration: .*not on the hub"),
     (503, "transient: .*the hub failed")],
)  # fmt: skip
def test_a_refusal_says_what_to_do(hub, tmp_path, status, said):
    endpoint, _ = hub(status=status)
    assert re.match(said, fetch(endpoint, tmp_path))


def test_a_repository_without_safetensors_is_refused(hub, tmp_path):
    endpoint, _ = hub(files={name: body for name, body in FILES.items() if name != "model.safetensors"})
    assert fetch(endpoint, tmp_path).startswith("configuration:")
    assert "no *.safetensors" in fetch(endpoint, tmp_path)


def test_a_model_that_was_never_tuned_to_chat_is_refused(hub, tmp_path):
    endpoint, _ = hub(files={**FILES, "tokenizer_config.json": b"{}"})
    assert re.match("configuration: .* has no chat template", fetch(endpoint, tmp_path))


def test_a_template_in_a_file_of_its_own_will_do(hub, tmp_path):
    endpoint, _ = hub(files={**FILES, "tokenizer_config.json": b"{}", "chat_template.jinja": b"{{ messages }}"})
    assert (Path(fetch(endpoint, tmp_path)) / "chat_template.jinja").is_file()


def test_a_hub_that_does_not_answer_is_a_transient_failure(tmp_path):
    assert fetch("http://127.0.0.1:9", tmp_path).startswith("transient: train.policy: someone/small-model")


def test_a_client_that_is_told_to_stay_offline_says_which_variable_told_it(hub, tmp_path):
    endpoint, _ = hub()
    assert "unset the `HF_HUB_OFFLINE` environment variable" in fetch(endpoint, tmp_path, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize("revision", ["main", "", "abc123"])
def test_a_branch_is_no_revision(revision):
    with pytest.raises(ValueError, match="revision"):
        HubPolicy(repo=REPO, revision=revision)
