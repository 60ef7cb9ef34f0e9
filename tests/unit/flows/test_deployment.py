"""infra/prefect.yaml and the served deployment, on a real Prefect server with a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.dvc import stage_names

ROOT = Path(__file__).resolve().parents[3]
PREFECT_FILE = ROOT / "infra" / "prefect.yaml"
READ = """
import json
from flows.deployment import kept_schedules
print(json.dumps([(item.schedule.cron, item.active) for item in kept_schedules()]))
"""


class Server:
    """A Prefect server, and its own client's commands."""

    def __init__(self, server: Any) -> None:
        self.url, self.call = server.url, server.call
        self.env = server.env

    def deployment(self, flow: str = "retrain") -> Any:
        """`FLOW/pointsman`, as the server knows it."""
        with urllib.request.urlopen(f"{self.url}/deployments/name/{flow}/pointsman", timeout=60) as reply:
            return json.load(reply)

    def python(self, *arguments: str, cwd: Path = ROOT) -> str:
        """What a Python process of this environment prints."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=cwd, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def server(prefect_server: Any) -> Server:
    """With the work pool, and deployed from infra/prefect.yaml."""
    server = Server(prefect_server)
    server.python("-m", "prefect", "work-pool", "create", "pointsman", "--type", "process")
    server.python("-m", "prefect", "deploy", "--all", "--prefect-file", str(PREFECT_FILE))
    return server


def test_the_choice_of_stages_in_the_ui_is_that_of_the_pipeline() -> None:
    code = "import json; from flows.retrain import STAGES; print(json.dumps(STAGES))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stdout)) == stage_names(ROOT)


@pytest.mark.slow
def test_prefect_deploy_makes_the_deployment_with_its_schedule_switched_off(server: Server) -> None:
    made = server.deployment()
    assert made["work_pool_name"] == "pointsman"
    assert made["entrypoint"] == "flows/retrain.py:retrain"
    assert made["global_concurrency_limit"]["limit"] == 1
    assert [(item["schedule"]["cron"], item["active"]) for item in made["schedules"]] == [("0 3 * * 1", False)]
    assert made["parameter_openapi_schema"]["properties"]["stage"]["enum"] == ["all", *stage_names(ROOT)]
    assert made["description"].startswith("Brings the router up to date")
    assert str(ROOT) not in json.dumps(made)


@pytest.mark.slow
def test_prefect_deploy_makes_promotion_and_rollback_too(server: Server) -> None:
    asked = {flow: server.deployment(flow)["parameters"] for flow in ("promote", "rollback")}
    assert asked == {"promote": {"release": "latest", "channel": "production"}, "rollback": {"channel": "production"}}


@pytest.mark.slow
def test_a_worker_runs_it_in_its_own_checkout(server: Server, repository: Any) -> None:
    (repository.root / "flows").symlink_to(ROOT / "flows")
    run = server.call(f"/deployments/{server.deployment()['id']}/create_flow_run", {})
    server.env["POINTSMAN_CHECKOUT"] = str(repository.root)
    server.python("-m", "prefect", "worker", "start", "--pool", "pointsman", "--run-once", cwd=repository.root.parent)
    (after,) = server.call("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert (after["state_type"], after["name"]) == ("COMPLETED", "smoke at no commit")
    assert (repository.root / "artifacts" / "second" / "text").read_text() == "48"
    told = server.call("/artifacts/filter", {"artifacts": {"key": {"any_": ["retrain"]}}})
    assert told[0]["data"].startswith("# Up to date: first, second in ")


@pytest.mark.slow
def test_schedules_set_in_the_ui_outlive_a_restart_of_pointsman_up(server: Server) -> None:
    path = f"/deployments/{server.deployment()['id']}/schedules"
    server.call(path, [{"active": True, "schedule": {"cron": "0 5 * * *", "timezone": "UTC"}}])
    assert sorted(json.loads(server.python("-c", READ))) == [["0 3 * * 1", False], ["0 5 * * *", True]]
