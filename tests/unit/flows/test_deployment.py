"""infra/prefect.yaml and the served deployment, on a real Prefect server with a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.dvc import stage_names

ROOT = Path(__file__).resolve().parents[3]
READ = """
import json
from flows.deployment import MONDAYS_AT_THREE, kept_schedules
from flows.retrain import retrain
flows = retrain, retrain.with_options(name="never served")
found = [kept_schedules(flow, [MONDAYS_AT_THREE]) for flow in flows]
print(json.dumps([sorted((item.schedule.cron, item.active) for item in each) for each in found]))
"""


def test_the_choice_of_stages_in_the_ui_is_that_of_the_pipeline() -> None:
    code = "import json; from flows.pipeline import STAGES; print(json.dumps(STAGES))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stdout)) == stage_names(ROOT)


@pytest.mark.slow
def test_prefect_deploy_makes_the_deployment_with_its_schedule_switched_off(deployed_server: Any) -> None:
    made = deployed_server.deployment()
    assert made["work_pool_name"] == "pointsman"
    assert made["entrypoint"] == "flows/retrain.py:retrain"
    assert made["global_concurrency_limit"]["limit"] == 1
    assert made["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [(item["schedule"]["cron"], item["active"]) for item in made["schedules"]] == [("0 3 * * 1", False)]
    assert set(made["parameter_openapi_schema"]["properties"]) == {"settings", "base", "keep", "folder"}
    assert made["description"].startswith("Retrains from the newest commit of a branch")
    assert str(ROOT) not in json.dumps(made)


@pytest.mark.slow
def test_a_stage_can_be_chosen_and_run_in_place(deployed_server: Any) -> None:
    made = deployed_server.deployment("pipeline")
    assert (made["entrypoint"], made["schedules"]) == ("flows/pipeline.py:pipeline", [])
    assert (made["global_concurrency_limit"]["limit"], made["concurrency_options"]["collision_strategy"]) == (
        1, "ENQUEUE"
    )  # fmt: skip
    assert made["parameter_openapi_schema"]["properties"]["stage"]["enum"] == ["all", *stage_names(ROOT)]
    assert made["description"].startswith("Brings this checkout up to date, in place")


@pytest.mark.slow
def test_prefect_deploy_makes_promotion_and_rollback_too(deployed_server: Any) -> None:
    asked = {flow: deployed_server.deployment(flow)["parameters"] for flow in ("promote", "rollback")}
    assert asked == {"promote": {"release": "latest", "channel": "production"}, "rollback": {"channel": "production"}}


@pytest.mark.slow
def test_a_worker_runs_it_in_its_own_checkout(deployed_server: Any, repository: Any) -> None:
    (repository.root / "flows").symlink_to(ROOT / "flows")
    run = deployed_server.call(f"/deployments/{deployed_server.deployment('pipeline')['id']}/create_flow_run", {})
    deployed_server.work(repository.root)
    after = deployed_server.flow_run(run["id"])
    assert (after["state_type"], after["name"]) == ("COMPLETED", "smoke at no commit")
    assert (repository.root / "artifacts" / "second" / "text").read_text() == "48"
    told = deployed_server.call("/artifacts/filter", {"artifacts": {"key": {"any_": ["pipeline"]}}})
    assert told[0]["data"].startswith("# Up to date: first, second in ")


@pytest.mark.slow
def test_schedules_set_in_the_ui_outlive_a_restart_of_pointsman_up(deployed_server: Any) -> None:
    path = f"/deployments/{deployed_server.deployment()['id']}/schedules"
    deployed_server.call(path, [{"active": True, "schedule": {"cron": "0 5 * * *", "timezone": "UTC"}}])
    assert json.loads(deployed_server.run("-c", READ)) == [
        [["0 3 * * 1", False], ["0 5 * * *", True]],
        [["0 3 * * 1", False]],
    ]
