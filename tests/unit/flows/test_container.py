"""What a stage may see, change and take in its container; where it runs is one parameter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import container
from flows.container import container_name, engine_command, run_in_container
from flows.doctor import check_engine
from flows.needs import family_of, needs_network, needs_of
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params import Params, parse_params
from stages.shared.params.stage import StageParams

ROOT = Path(__file__).resolve().parents[3]
IMAGE = "sha256:" + "5" * 64
PULLED = "registry.example.org/pointsman@" + IMAGE
STAGES = ("ingest", "profile", "train", "evaluate", "publish")


def parameters(**changes: Any) -> Params:
    raw = yaml.safe_load((ROOT / "infra/profiles/smoke.yaml").read_text())
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) and "kind" not in value else value
    return parse_params(raw, "smoke.yaml")


def behind_an_api() -> Params:
    candidate = {"name": "a", "model": "m", "base_url": "https://a.example/v1", "key_env": "A_KEY", "price": 1.0,
                 "prompt_price": 1.0}  # fmt: skip
    source = {"kind": "files", "folder": "/data/questions", "train": {"nq": "t"}, "test": {"nq": "e"}}
    return parameters(pool={"kind": "api", "candidates": [candidate]}, ingest={"source": source, "train_on": ["nq"]})


def engine(folder: Path, name: str, code: str) -> Path:
    """A program of that name, first on PATH, which notes how it was called and then runs `code`."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    note = f"import json, os, sys; open({str(folder / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
    path.write_text(f"#!{sys.executable}\n{note}\n{code}\n")
    path.chmod(0o755)
    os.environ["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
    return path


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def ran(stage: str, params: Params, root: Path) -> list[str]:
    needs = needs_of(stage, params, root, IMAGE)
    return engine_command("podman", "n", stage, needs, params.stage, root)


def test_by_default_a_stage_is_a_process_and_no_image_is_named() -> None:
    assert StageParams() == parameters().stage
    assert StageParams().runtime == "process"


def test_an_image_that_nothing_would_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="uses none"):
        parameters(stage={"images": {"cpu": IMAGE, "gpu": None}})


def test_an_image_is_named_by_its_digest_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"stage\.images\.cpu"):
        parameters(stage={"runtime": "podman", "images": {"cpu": "localhost/pointsman-cpu:latest"}})


def test_a_cluster_needs_an_image_that_it_can_pull() -> None:
    with pytest.raises(ConfigurationError, match="push it"):
        parameters(stage={"runtime": "kubernetes", "images": {"cpu": IMAGE}})


def test_a_launched_process_is_the_stage_itself(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "infra/profiles/smoke.yaml").read_bytes())
    (tmp_path / "stages" / "ingest.py").write_text("import os; print('pid', os.getpid()); raise SystemExit(7)")
    package = "import pkgutil; __path__ = pkgutil.extend_path(__path__, __name__)"
    (tmp_path / "stages" / "__init__.py").write_text(package)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.launch", "ingest"], cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE
    )
    said, _ = process.communicate()
    assert (said, process.returncode) == (f"pid {process.pid}\n", 7)


def test_a_stage_without_an_image_says_how_to_get_one(tmp_path: Path) -> None:
    text = (ROOT / "infra/profiles/smoke.yaml").read_text().replace("runtime: process", "runtime: podman")
    (tmp_path / "params.yaml").write_text(text)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.launch", "ingest"]
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert "make images" in done.stderr
    assert json.loads((tmp_path / ".pointsman/errors/ingest.json").read_text())["kind"] == "configuration"


@pytest.mark.parametrize("stage", STAGES)
def test_a_sandbox_stage_has_no_network_but_where_it_publishes(stage: str, tmp_path: Path) -> None:
    wanted = "--network=host" if stage == "publish" else "--network=none"
    assert wanted in ran(stage, parameters(), tmp_path)


def test_the_network_is_there_for_stages_that_ask_an_api_and_for_no_other() -> None:
    assert [needs_network(stage, behind_an_api()) for stage in STAGES] == [False, True, True, True, True]
    kept = parameters(publish={"folder": "/releases"})
    assert not needs_network("publish", kept)


def test_a_stage_is_nobody_has_no_capability_and_may_write_its_outputs_alone(tmp_path: Path) -> None:
    (tmp_path / "artifacts/ingest").mkdir(parents=True)
    (tmp_path / "artifacts/profile").mkdir()
    command = ran("profile", parameters(), tmp_path)
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=12g"} <= set(command)
    assert not any(each.startswith("--user=0") for each in command)
    binds = [each.removeprefix("--volume=") for each in command if each.startswith("--volume=")]
    writable = {bind.partition(":")[0] for bind in binds if not bind.endswith(":ro")}
    assert writable == {str(tmp_path / name) for name in ("artifacts", "metrics", ".pointsman")}
    assert f"{tmp_path}:{tmp_path}:ro" in binds
    assert f"{tmp_path / 'artifacts/ingest'}:{tmp_path / 'artifacts/ingest'}:ro" in binds


def test_a_key_goes_to_the_stages_that_need_it_and_stands_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "s3cret")
    monkeypatch.setenv("POINTSMAN_FORGE_TOKEN", "t0ken")
    commands = {stage: ran(stage, behind_an_api(), tmp_path) for stage in STAGES}
    assert [stage for stage in STAGES if "--env=A_KEY" in commands[stage]] == ["profile", "train", "evaluate"]
    assert not any("s3cret" in each or "FORGE" in each for command in commands.values() for each in command)


def test_a_stage_that_signs_by_an_identity_gets_its_token_and_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token, request = "POINTSMAN_IDENTITY_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
    for name in (token, request):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv(f"{token}_FILE", "/run/tokens/ci")
    by_key = parameters(publish={"folder": "releases"})
    assert not {token, request} & {*needs_of("publish", by_key, tmp_path, IMAGE).keys}
    by_identity = parameters(publish={"folder": "releases", "sigstore": {"trust": "/etc/sigstore.json"}})
    needs = needs_of("publish", by_identity, tmp_path, IMAGE)
    assert needs.network
    assert {token, request} <= {*needs.keys}
    assert {Path("/run/tokens/ci"), Path("/etc/sigstore.json")} <= {*needs.reads}
    assert "secret" not in " ".join(ran("publish", by_identity, tmp_path))


def test_questions_outside_the_checkout_are_there_to_read(tmp_path: Path) -> None:
    assert "--volume=/data/questions:/data/questions:ro" in ran("ingest", behind_an_api(), tmp_path)


def test_resume_points_are_kept_apart_by_image(tmp_path: Path) -> None:
    assert f"--env=POINTSMAN_RUNS={tmp_path}/.pointsman/runs/{'5' * 12}" in ran("train", parameters(), tmp_path)


def test_training_and_evaluation_on_a_gpu_run_on_its_image() -> None:
    params = parameters(train={"backend": "gpu"})
    assert [family_of(stage, params) for stage in STAGES] == ["cpu", "cpu", "gpu", "gpu", "cpu"]


@pytest.mark.parametrize(
    "code, error", [(125, ConfigurationError), (137, BudgetError)], ids=["engine cannot start it", "killed for memory"]
)
def test_what_the_engine_says_becomes_an_error_that_says_what_to_do(
    code: int, error: type[Exception], tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    engine(tmp_path, "podman", f"sys.exit({code} if sys.argv[1] == 'run' else 0)")
    params = parameters()
    with pytest.raises(error):
        run_in_container("podman", "ingest", needs_of("ingest", params, tmp_path, IMAGE), params.stage, tmp_path)


def test_a_checkout_that_nobody_may_read_is_refused_where_root_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tmp_path, "podman", "")
    monkeypatch.setattr(container.os, "getuid", lambda: 0)
    tmp_path.chmod(0o700)
    params = parameters()
    with pytest.raises(ConfigurationError, match=r"chmod o\+rx"):
        run_in_container("podman", "ingest", needs_of("ingest", params, tmp_path, IMAGE), params.stage, tmp_path)


def test_a_container_that_a_dead_launcher_left_goes_first(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    engine(tmp_path, "docker", "sys.exit(3 if sys.argv[1] == 'run' else 0)")
    params = parameters()
    needs = needs_of("ingest", params, tmp_path, IMAGE)
    assert run_in_container("docker", "ingest", needs, params.stage, tmp_path) == 3
    first, second = calls(tmp_path)
    assert first == ["rm", "--force", container_name("ingest", tmp_path)]
    assert second[0] == "run"


def test_the_engine_hears_of_it_when_the_launcher_is_killed(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    wait = f"import signal, time; signal.signal(15, lambda *_: (open({str(heard)!r}, 'w').write('15'), sys.exit(1)))"
    engine(tmp_path, "podman", f"{wait}; open({str(tmp_path / 'up')!r}, 'w'); time.sleep(60)")
    launcher = subprocess.Popen([sys.executable, "-c", "from flows.container import _wait; _wait(['podman', 'run'])"],
                                cwd=ROOT)  # fmt: skip
    until(lambda: (tmp_path / "up").exists())
    launcher.kill()
    launcher.wait()
    until(heard.exists)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "image, code, state",
    [(IMAGE, 0, "good"), (IMAGE, 1, "wrong"), (PULLED, 1, "note"), (None, 0, "wrong")],
    ids=["it has the image", "it has not", "it may pull it", "no image is named"],
)
def test_the_doctor_says_whether_stages_can_run_in_containers(
    image: str | None, code: int, state: str, tmp_path: Path
) -> None:
    engine(tmp_path, "podman", f"sys.exit({code})")
    assert check_engine("podman", image).state == state


def test_the_doctor_says_that_an_engine_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in check_engine("docker", IMAGE).found


def test_where_root_starts_it_nobody_may_write_the_outputs_and_prefects_state_stays_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []
    monkeypatch.setattr(container.os, "getuid", lambda: 0)
    monkeypatch.setattr(container.os, "chown", lambda path, *_, **__: given.append(path))
    (tmp_path / "prefect").mkdir()
    (tmp_path / "runs" / "train").mkdir(parents=True)
    container.prepare([tmp_path])
    assert set(given) == {tmp_path, tmp_path / "runs", tmp_path / "runs/train"}
