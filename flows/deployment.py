"""The deployment `retrain/pointsman` that `pointsman up` serves."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.exceptions import ObjectNotFound

from flows.retrain import retrain

NAME = "pointsman"


def serve_retrain() -> None:
    """Run what is asked for in Prefect's UI or by its schedules, one run at a time, until interrupted."""
    retrain.serve(name=NAME, schedules=kept_schedules(), limit=1, pause_on_shutdown=False, print_starting_message=False)


def kept_schedules() -> list[DeploymentScheduleCreate]:
    """The schedules that were set in the UI before: to serve a flow without naming them would delete them."""
    with get_client(sync_client=True) as client:
        try:
            known = client.read_deployment_by_name(f"{retrain.name}/{NAME}").schedules
        except ObjectNotFound:
            return []
    fields = {"schedule", "active", "max_scheduled_runs", "parameters", "slug"}
    return [DeploymentScheduleCreate.model_validate(item.model_dump(include=fields)) for item in known]
