"""infra/prefect.yaml and the served deployment, on a real Prefect server with a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.dvc import stage_names

ROOT = Path(__file__).resolve().parents[3]
FORMER = """
import json
from prefect.client.orchestration import get_client
from flows.deployment import FORMER, delete_former, find, kept
with get_client(sync_client=True) as client:
    taken_over = kept(client, {"name": "not made yet", "entrypoint": "flows/promote.py:rollback", "schedules": []})
    delete_former(["rollback", "promote"])
    left = [find(client, "rollback", name) is not None for name in (FORMER, "rollback")]
print(json.dumps([[item["cron"] for item in taken_over], left]))
"""
READ = """
import json
from prefect.client.orchestration import get_client
from flows.deployment import kept
mondays = {"cron": "0 3 * * 1", "timezone": "UTC", "active": False}
entries = ("flows/retrain.py:retrain", "flows/retrain.py:never_deployed")
with get_client(sync_client=True) as client:
    found = [kept(client, {"name": "retrain", "entrypoint": each, "schedules": [mondays]}) for each in entries]
print(json.dumps([sorted((item["cron"], item["active"]) for item in each) for each in found]))
"""
POOLS = """
import json
from pathlib import Path
from prefect.client.orchestration import get_client
from flows.pool import make_pool
from stages.shared.params import load_params
from stages.shared.params.stage import StageParams
params = load_params(Path("infra/profiles/smoke.yaml"))
image = "registry.example.org/pointsman-cpu@sha256:" + "5" * 64
stage = StageParams(runtime="kubernetes", images={"cpu": image})
params, found = params.model_copy(update={"stage": stage}), {}
with get_client(sync_client=True) as client:
    make_pool(client, "jobs", "kubernetes", 2, Path("/srv/pointsman"), params)
    make_pool(client, "containers", "docker", 2, Path.cwd(), params)
    for name in ("jobs", "containers"):
        pool = client.read_work_pool(name)
        found[name] = {"type": pool.type, "limit": pool.concurrency_limit, **pool.base_job_template}
print(json.dumps(found))
"""
LOST = """
import os, time, uuid
from prefect.concurrency import _leases
from flows.log import begin_run
_leases._RENEWAL_MAX_ATTEMPTS = 1
os.environ["PREFECT__FLOW_RUN_ID"] = str(uuid.uuid4())
begin_run()
with _leases.maintain_concurrency_lease(uuid.uuid4(), 300, raise_on_lease_renewal_failure=True):
    until = time.monotonic() + 2
    while time.monotonic() < until:
        time.sleep(0.05)
print("went on")
"""
DAYS = """
import asyncio, json, sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo
from prefect.server.schemas.schedules import CronSchedule
found = {}
for zone, begin in json.loads(sys.argv[2]):
    start = datetime.fromisoformat(begin).replace(tzinfo=timezone.utc)
    dates = asyncio.run(CronSchedule(cron=sys.argv[1], timezone=zone).get_dates(9, start))
    found[zone] = [date.astimezone(ZoneInfo(zone)).isoformat() for date in dates]
print(json.dumps(found))
"""
CHANGES = [
    ("America/New_York", "2027-03-10"), ("Europe/Berlin", "2027-10-26"),
    ("Australia/Lord_Howe", "2027-03-31"), ("Pacific/Kiritimati", "2027-03-10"),
]  # fmt: skip
"""A zone, and a day shortly before its clocks change: forward, back, by half an hour, never."""


def test_the_choice_of_stages_in_the_ui_is_that_of_the_pipeline() -> None:
    code = "import json; from flows.pipeline import STAGES; print(json.dumps(STAGES))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stdout)) == stage_names(ROOT)


def test_a_nightly_watch_comes_once_every_local_day_where_clocks_change() -> None:
    """At its hour; on the one day that lacks that hour, at the one before."""
    wanted = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text())["deployments"]
    (schedule,) = next(each["schedules"] for each in wanted if each["name"] == "watch")
    command = [sys.executable, "-c", DAYS, schedule["cron"], json.dumps(CHANGES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {zone: [datetime.fromisoformat(date) for date in dates] for zone, dates in json.loads(done.stdout).items()}
    for zone, _ in CHANGES:
        days = [date.date().toordinal() for date in found[zone]]
        assert days == list(range(days[0], days[0] + len(days))), zone
        hours = [date.hour for date in found[zone]]
        assert sorted(hours)[1:] == [2] * 8, zone
        assert min(hours) == (1 if zone == "America/New_York" else 2)
    assert len({date.utcoffset() for date in found["Europe/Berlin"]}) == 2


@pytest.mark.slow
def test_prefect_deploy_makes_the_deployment_with_its_schedule_switched_off(deployed_server: Any) -> None:
    made = deployed_server.deployment()
    assert made["work_pool_name"] == "pointsman"
    assert made["entrypoint"] == "flows/retrain.py:retrain"
    assert made["global_concurrency_limit"]["limit"] == 1
    assert made["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [(item["schedule"]["cron"], item["active"]) for item in made["schedules"]] == [("0 3 * * 1", False)]
    asked = set(made["parameter_openapi_schema"]["properties"])
    assert asked == {"settings", "base", "keep", "folder", "budget", "hours"}
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
def test_promotion_rollback_and_the_evaluation_of_a_release_are_deployed_too(deployed_server: Any) -> None:
    asked = {
        flow: deployed_server.deployment(flow)["parameters"] for flow in ("promote", "rollback", "evaluate-release")
    }
    assert asked == {
        "promote": {"release": "latest", "channel": "production"},
        "rollback": {"channel": "production"},
        "evaluate-release": {"release": "production", "budget": None, "hours": 4},
    }


@pytest.mark.slow
def test_pools_of_containers_and_of_jobs_see_the_checkout_confined_and_so_many_at_a_time(running_server: Any) -> None:
    found = json.loads(running_server.run("-c", POOLS))
    assert {name: (pool["type"], pool["limit"]) for name, pool in found.items()} == {
        "jobs": ("kubernetes", 2), "containers": ("docker", 2)
    }  # fmt: skip
    values = {name: pool["variables"]["properties"] for name, pool in found.items()}
    assert values["containers"]["volumes"]["default"] == [f"{ROOT}:{ROOT}"]
    assert values["containers"]["env"]["default"]["POINTSMAN_CHECKOUT"] == str(ROOT)
    confined = found["containers"]["job_configuration"]["container_create_kwargs"]
    assert (confined["read_only"], confined["cap_drop"]) == (True, ["ALL"])
    pod = found["jobs"]["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "pointsman-work"}
    assert pod["containers"][0]["volumeMounts"][0] == {"name": "work", "mountPath": "/srv"}
    assert values["jobs"]["image"]["default"].startswith("registry.example.org/pointsman-cpu@sha256:")


@pytest.mark.slow
def test_a_worker_runs_it_in_its_own_checkout(deployed_server: Any, repository: Any) -> None:
    (repository.root / "flows").symlink_to(ROOT / "flows")
    run = deployed_server.call(f"/deployments/{deployed_server.deployment('pipeline')['id']}/create_flow_run", {})
    deployed_server.work(repository.root)
    after = deployed_server.flow_run(run["id"])
    assert (after["state_type"], after["name"]) == ("COMPLETED", "smoke at no commit")
    assert (repository.root / "artifacts" / "second" / "text").read_text() == "48"
    of_it = {"key": {"any_": ["pipeline"]}, "flow_run_id": {"any_": [run["id"]]}}
    (told,) = deployed_server.call("/artifacts/filter", {"artifacts": of_it})
    assert told["data"].startswith("# Up to date: first, second in ")


@pytest.mark.slow
def test_schedules_set_in_the_ui_outlive_the_next_deployment(deployed_server: Any) -> None:
    path = f"/deployments/{deployed_server.deployment()['id']}/schedules"
    deployed_server.call(path, [{"active": True, "schedule": {"cron": "0 5 * * *", "timezone": "UTC"}}])
    assert json.loads(deployed_server.run("-c", READ)) == [
        [["0 3 * * 1", False], ["0 5 * * *", True]],
        [["0 3 * * 1", False]],
    ]


@pytest.mark.slow
def test_a_deployment_of_the_former_name_goes_and_its_schedule_stays(deployed_server: Any) -> None:
    flow = deployed_server.deployment("rollback")["flow_id"]
    monthly = {"active": True, "schedule": {"cron": "0 0 1 * *", "timezone": "UTC"}}
    deployed_server.call("/deployments/", {"name": "pointsman", "flow_id": flow, "schedules": [monthly]})
    assert json.loads(deployed_server.run("-c", FORMER)) == [["0 0 1 * *"], [False, True]]


@pytest.mark.slow
def test_runs_that_a_dead_worker_left_are_noted_where_its_pool_has_no_other(deployed_server: Any) -> None:
    """As after its container was killed: Prefect takes them for running, and they keep others waiting."""
    made = deployed_server.deployment("rollback")["id"]
    run = deployed_server.call(f"/deployments/{made}/create_flow_run", {})["id"]
    deployed_server.call(f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    command = "-m", "flows.cli", "deploy", "--pool"
    assert "To be retried" not in deployed_server.run(*command, "pointsman")
    assert "[]" in deployed_server.run("-c", "from flows.recovery import note_crashes; print(note_crashes('another'))")
    assert "To be retried" in deployed_server.run(*command, "pointsman", "--alone")
    after = deployed_server.flow_run(run)
    assert (after["state_type"], after["state"]["message"].partition(";")[0]) == ("CRASHED", "its process is gone")


@pytest.mark.slow
def test_a_run_whose_place_the_server_forgot_goes_on(deployed_server: Any) -> None:
    """As after a restart of the server, or a leap of its clock; Prefect alone would end it."""
    assert "went on" in deployed_server.run("-c", LOST)
