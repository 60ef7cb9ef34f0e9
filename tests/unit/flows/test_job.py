"""A stage as a Kubernetes job, on a double of a cluster's API; a real one: tests/pipeline/test_kubernetes.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.resources.core_v1 import Pod

from flows import job
from flows.job import manifest, run_as_job
from flows.needs import Needs, needs_of
from flows.pod import look
from stages.shared.errors import BudgetError, ConfigurationError, ConflictError, PipelineError, TransientError
from stages.shared.params import Params, parse_params
from stages.shared.params.stage import StageParams

ROOT = Path(__file__).resolve().parents[3]
PULLED = "registry.example.org/pointsman@sha256:" + "5" * 64
NAMED = {"name": "stage", "image": PULLED, "imageID": PULLED, "ready": True, "restartCount": 0}
RUNNING: dict[str, Any] = {**NAMED, "state": {"running": {}}}
JOB = "/apis/batch/v1/namespaces/pointsman/jobs"
PODS = "/api/v1/namespaces/pointsman/pods"


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {**NAMED, "state": {"terminated": {"exitCode": code, **more}}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {**NAMED, "state": {"waiting": {"reason": reason, "message": message}}}


class Double:
    """The API of a cluster: one job at a time, whose pod goes through `states`, a step each time somebody looks."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = [waiting("ContainerCreating"), RUNNING, ended(0)]
        self.log: list[str] = []
        self.pod: dict[str, Any] = {}
        """More of the pod's status."""
        self.names = ["a-pod"]
        """Of the pod, a step each time somebody looks: another takes the place of one that is deleted."""
        self.lost = False
        self.refusals: dict[str, tuple[int, str]] = {}
        """Verb -> what it is answered."""
        self.hiccups = 0
        self.jobs: dict[str, Any] = {}
        self.heard: list[str] = []

    def answer(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        name = path.partition("?")[0].rpartition("/")[2]
        deed = f"{verb} {'log' if name == 'log' else 'pods' if path.startswith(PODS) else 'jobs'}"
        if path.startswith(JOB):
            self.heard.append(verb)
        if deed in self.refusals:
            code, said = self.refusals[deed]
            return code, {"kind": "Status", "status": "Failure", "code": code, "message": said}
        if verb == "POST":
            self.jobs[body["metadata"]["name"]] = body
            return 201, body
        if verb == "DELETE":
            return (200, self.jobs.pop(name)) if name in self.jobs else (404, {"kind": "Status", "code": 404})
        if deed == "GET jobs" and path.startswith(JOB):
            failed = {"type": "Failed", "status": "True", "message": "it reached its limit"}
            return 200, {"metadata": {"name": name}, "status": {"conditions": [failed] if self.lost else []}}
        return self._look(deed)

    def _look(self, deed: str) -> tuple[int, Any]:
        if self.hiccups:
            self.hiccups -= 1
            return 503, {"kind": "Status", "code": 503, "message": "etcd is away"}
        if deed == "GET log":
            return 200, "\n".join(self.log)
        if deed != "GET pods" or self.lost:
            return 200, {"kind": "List", "metadata": {}, "items": []}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        status = {"containerStatuses": [state] if state else [], **self.pod}
        name = self.names.pop(0) if len(self.names) > 1 else self.names[0]
        return 200, {"metadata": {}, "items": [{"metadata": {"name": name, "uid": "7"}, "status": status}]}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    double = Double()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            code, found = double.answer(self.command, self.path, json.loads(self.rfile.read(size)) if size else None)
            text = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if isinstance(found, str) else "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    way(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(job, "TICK_S", 0.01)
    yield double
    server.shutdown()
    server.server_close()


def way(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str) -> None:
    """To a cluster at that address."""
    config = {"clusters": [{"name": "a", "cluster": {"server": address}}], "current-context": "a",
              "users": [{"name": "a", "user": {"token": "s3cret"}}],
              "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))


def run(folder: Path) -> int:
    params = StageParams.model_validate({"kubernetes": {"mount": str(folder)}})
    return run_as_job("ingest", Needs(PULLED, False, False, {}, (), (), (folder / "artifacts",)), params, folder)


def test_a_job_is_made_followed_and_its_exit_code_is_the_stages_own(cluster: Double, tmp_path: Path) -> None:
    cluster.states[-1] = ended(3)
    assert run(tmp_path) == 3
    assert cluster.heard == ["DELETE", "POST"]
    assert [made["kind"] for made in cluster.jobs.values()] == ["Job"]


def test_every_line_is_passed_on_once_however_often_the_log_is_read(
    cluster: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = ("01.1", "01.12", "01.123456789", "02")
    cluster.log = [f"2026-11-22T03:00:{when}Z line {number}" for number, when in enumerate(times)]
    cluster.states = [RUNNING, RUNNING, RUNNING, ended(0)]
    run(tmp_path)
    assert capsys.readouterr().out.splitlines() == [f"line {number}" for number in range(4)]


def test_a_bar_that_returns_to_its_lines_begin_hides_nothing_after_it(
    cluster: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.log = ["2026-11-22T03:00:01Z 0 of 2\r1 of 2\r2 of 2", "2026-11-22T03:00:02Z and on"]
    cluster.states = [RUNNING, RUNNING, ended(0)]
    run(tmp_path)
    assert capsys.readouterr().out.splitlines() == ["0 of 2", "1 of 2", "2 of 2", "and on"]


def test_what_it_waits_for_is_said_once(cluster: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient memory."}
    cluster.pod = {"conditions": [held]}
    cluster.states = [{}, {}, {}, RUNNING, ended(0)]
    run(tmp_path)
    assert capsys.readouterr().out == f"ingest waits: no node takes it: {held['message']}\n"


def test_a_job_that_ran_out_of_memory_names_the_limit_after_its_last_words(
    cluster: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.states = [ended(137, reason="OOMKilled")]
    cluster.log = ["2026-11-22T03:00:00Z last words"]
    with pytest.raises(BudgetError, match=r"12g of memory: raise stage\.memory"):
        run(tmp_path)
    assert capsys.readouterr().out == "last words\n"
    assert not cluster.jobs


@pytest.mark.parametrize(
    ("status", "deleted", "error", "said"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}, False,
         TransientError, "low on resource"),
        ({"phase": "Failed", "reason": "Evicted", "message": 'Usage of EmptyDir volume "shm" exceeds the limit'}, False,
         BudgetError, "exceeds"),
        ({"phase": "Failed", "reason": "NodeLost"}, False, TransientError, "NodeLost"),
        ({"containerStatuses": [ended(130)]}, True, TransientError, "was deleted"),
        ({"containerStatuses": [ended(137)]}, True, TransientError, "was deleted"),
        ({"containerStatuses": [ended(128, reason="StartError", message="no python")]}, False, ConfigurationError,
         "no python"),
    ],
    ids=["node is short", "it took too much", "node is lost", "deleted", "deleted and killed", "cannot start"],
)  # fmt: skip
def test_a_pod_that_the_cluster_ends_says_whether_to_try_again(
    status: dict[str, Any], deleted: bool, error: type[Exception], said: str
) -> None:
    metadata = {"deletionTimestamp": "2026-11-22T03:00:00Z"} if deleted else {}
    with pytest.raises(error, match=said):
        look(Pod.from_dict({"metadata": metadata, "status": status}), "train", "12g")


@pytest.mark.parametrize(
    ("deed", "code", "error", "way_out"),
    [
        ("POST jobs", 401, ConfigurationError, "log in anew"),
        ("POST jobs", 403, ConfigurationError, "role `worker`"),
        ("POST jobs", 404, ConfigurationError, "kubectl apply"),
        ("POST jobs", 409, ConflictError, "another run"),
        ("POST jobs", 422, ConfigurationError, "section stage"),
        ("POST jobs", 503, TransientError, "503"),
        ("GET log", 403, ConfigurationError, "role `worker`"),
    ],
)
def test_a_refusal_says_what_to_do(
    deed: str, code: int, error: type[PipelineError], way_out: str, cluster: Double, tmp_path: Path
) -> None:
    cluster.refusals[deed] = (code, "the reason")
    with pytest.raises(error, match=f"the reason.*{way_out}"):
        run(tmp_path)


def test_a_pod_in_whose_place_there_is_another_was_deleted(cluster: Double, tmp_path: Path) -> None:
    cluster.states, cluster.names = [RUNNING], ["a-pod", "a-pod", "another"]
    with pytest.raises(TransientError, match="was deleted"):
        run(tmp_path)
    assert not cluster.jobs


def test_a_cluster_that_is_silent_for_a_moment_ends_nothing(
    cluster: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.hiccups = 2
    assert run(tmp_path) == 0
    assert capsys.readouterr().out.count("it is asked again") == 1


def test_a_job_that_lost_its_pod_is_worth_another_try(cluster: Double, tmp_path: Path) -> None:
    cluster.lost = True
    with pytest.raises(TransientError, match="it reached its limit"):
        run(tmp_path)


def test_an_image_that_cannot_be_had_is_a_matter_of_configuration(
    cluster: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "STUCK_S", 0.05)
    cluster.states = [waiting("ImagePullBackOff", "no such image")]
    with pytest.raises(ConfigurationError, match="no such image"):
        run(tmp_path)


def test_a_pod_that_never_begins_is_given_up(cluster: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "START_S", 0.05)
    cluster.states = [waiting("ContainerCreating")]
    with pytest.raises(TransientError, match="not begun"):
        run(tmp_path)


def test_a_cluster_that_does_not_answer_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way(monkeypatch, tmp_path, "http://127.0.0.1:9")
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 does not answer"):
        run(tmp_path)


@pytest.mark.parametrize("text", [None, "", "clusters: []", "{"], ids=["no file", "empty", "no cluster", "no YAML"])
def test_no_way_to_a_cluster_is_a_matter_of_configuration(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    if text is not None:
        (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(ConfigurationError, match="KUBECONFIG"):
        run(tmp_path)


LAUNCH = """
import sys
from pathlib import Path
from flows.job import run_as_job
from flows.needs import Needs
from stages.shared.params.stage import StageParams
params = StageParams.model_validate({"kubernetes": {"mount": sys.argv[1]}})
run_as_job("ingest", Needs("an-image", False, False, {}, (), (), ()), params, Path(sys.argv[1]))
"""


def test_a_job_is_ended_when_its_launcher_is_killed(cluster: Double, tmp_path: Path) -> None:
    cluster.states = [RUNNING]
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCH, str(tmp_path)], cwd=ROOT, start_new_session=True)
    until(lambda: bool(cluster.jobs))
    os.killpg(launcher.pid, 9)
    launcher.wait()
    until(lambda: not cluster.jobs and cluster.heard[-2:] == ["DELETE", "DELETE"])


def until(holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parameters() -> Params:
    raw = yaml.safe_load((ROOT / "infra/profiles/smoke.yaml").read_text())
    raw["stage"] = {"runtime": "kubernetes", "images": {"cpu": PULLED}}
    return parse_params(raw, "smoke.yaml")


def made(stage: str, root: Path) -> dict[str, Any]:
    params = parameters()
    return manifest(stage, needs_of(stage, params, root, PULLED), params.stage, root)


def test_a_job_is_as_confined_as_a_container() -> None:
    found = made("ingest", Path("/srv/pointsman"))
    pod = found["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (only,) = pod["containers"]
    assert only["securityContext"]["readOnlyRootFilesystem"]
    assert only["resources"]["limits"] == {"memory": "12Gi"}
    assert found["spec"]["template"]["metadata"]["labels"]["pointsman.dev/network"] == "none"
    writable = [mount["mountPath"] for mount in only["volumeMounts"] if mount.get("readOnly") is False]
    assert writable == [f"/srv/pointsman/{name}" for name in ("artifacts", "metrics", ".pointsman")]


def test_a_job_may_not_change_what_other_stages_made(tmp_path: Path) -> None:
    for name in ("ingest", "profile"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    params = parameters().stage.model_copy(update={"kubernetes": StageParams().kubernetes.model_copy(
        update={"mount": str(tmp_path.parent)})})  # fmt: skip
    found = manifest("profile", needs_of("profile", parameters(), tmp_path, PULLED), params, tmp_path)
    mounts = found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    closed = [mount["mountPath"] for mount in mounts if mount.get("readOnly")]
    assert closed == [str(tmp_path), str(tmp_path / "artifacts/ingest")]


def test_a_job_takes_keys_from_a_secret() -> None:
    needs = Needs(PULLED, False, True, {}, ("A_KEY",), (), ())
    text = json.dumps(manifest("profile", needs, StageParams(), Path("/srv/pointsman")))
    assert '"secretKeyRef": {"name": "pointsman-keys", "key": "A_KEY"}' in text


def test_a_job_goes_with_the_pod_that_started_it(
    cluster: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owners(tmp_path, cluster) == []
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert owners(tmp_path, cluster) == [{"apiVersion": "v1", "kind": "Pod", "name": "a-pod", "uid": "7"}]


def owners(folder: Path, cluster: Double) -> Any:
    cluster.states = [ended(0)]
    run(folder)
    (only,) = cluster.jobs.values()
    return only["metadata"]["ownerReferences"]


def test_a_checkout_that_is_not_on_the_volume_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not below /srv"):
        made("ingest", Path("/home/ada/pointsman"))
