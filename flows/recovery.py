"""Runs whose process is gone, though Prefect's server takes them for running: to be retried, out of others' way."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.filters import FlowRunFilterStateType as StateFilter
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

GONE = "its process is gone; retry the run: it goes on where it stopped"
TAG = "pointsman"
"""Of every deployment in infra/prefect.yaml."""
ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED]


def note_crashes(pool: str) -> list[str]:
    """Say of every run of a deployment in the pool that is under way that it crashed; their names.

    Call it where no worker of that pool runs.
    """
    state = FlowRunFilterState(type=StateFilter(any_=ALIVE))
    deployments = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    pools = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state), deployment_filter=deployments, work_pool_filter=pools
        )
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
    return [run.name for run in runs]
