"""The deployments that `pointsman up` serves, `NAME/pointsman` each: retrain, pipeline (in place), watch."""

from __future__ import annotations

from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

from flows.pipeline import pipeline
from flows.retrain import retrain
from flows.watch import watch

NAME = "pointsman"
MONDAYS_AT_THREE = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * 1", timezone="UTC"), active=False)

EVERY_NIGHT = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *", timezone="UTC"), active=False)


def serve_flows() -> None:
    """Run what is asked for in Prefect's UI or by its schedules, one run at a time, until interrupted."""
    served = []
    for flow, at_first in ((retrain, [MONDAYS_AT_THREE]), (pipeline, []), (watch, [EVERY_NIGHT])):
        made = flow.to_deployment(NAME, schedules=kept_schedules(flow, at_first))
        assert isinstance(made, RunnerDeployment)
        served.append(made)
    serve(*served, limit=1, pause_on_shutdown=False, print_starting_message=False)


def kept_schedules(flow: Flow[..., Any], at_first: list[DeploymentScheduleCreate]) -> list[DeploymentScheduleCreate]:
    """The schedules that were set in the UI before: to serve a flow without naming them would delete them."""
    with get_client(sync_client=True) as client:
        try:
            known = client.read_deployment_by_name(f"{flow.name}/{NAME}").schedules
        except ObjectNotFound:
            return at_first
    fields = {"schedule", "active", "max_scheduled_runs", "parameters", "slug"}
    return [DeploymentScheduleCreate.model_validate(item.model_dump(include=fields)) for item in known]
