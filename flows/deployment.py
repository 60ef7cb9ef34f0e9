"""The deployments of infra/prefect.yaml on a Prefect server, each called as its flow, for a work pool of any kind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound

from flows.pool import Kind, make_pool
from flows.process import environment
from stages.shared.errors import ConfigurationError
from stages.shared.files import read_yaml, write_text
from stages.shared.params import load_params

FORMER = "pointsman"
"""How every one of them was called before; those are deleted, and their schedules taken over."""
FILE = Path("infra") / "prefect.yaml"


def deploy(root: Path, pool: str, kind: Kind, limit: int, *, reset: bool = False) -> list[str]:
    """Make the pool and every deployment of it; their names.

    Schedules that were set in the UI stand, unless `reset` takes those of the file. Raises ConfigurationError for a
    checkout without that file, a pool that cannot be made, and where Prefect refuses a deployment.
    """
    path = root / FILE
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file; it names the deployments")
    wanted: dict[str, Any] = read_yaml(path)
    with get_client(sync_client=True) as client:
        make_pool(client, pool, kind, limit, root, load_params(root / "params.yaml"))
        for deployment in wanted["deployments"]:
            deployment["work_pool"] = {"name": pool}
            if not reset:
                deployment["schedules"] = kept(client, deployment)
    rendered = root / ".pointsman" / "prefect" / "deployments.yaml"
    write_text(rendered, yaml.safe_dump(wanted, sort_keys=False))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(rendered)]
    env = environment() | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"Prefect refuses {FILE}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    delete_former([_flow(deployment) for deployment in wanted["deployments"]])
    return [str(deployment["name"]) for deployment in wanted["deployments"]]


def delete_former(flows: Sequence[str]) -> None:
    """Delete what these flows' deployments were before they had names of their own."""
    with get_client(sync_client=True) as client:
        for name in flows:
            if (known := find(client, name, FORMER)) is not None:
                client.delete_deployment(known.id)


def find(client: SyncPrefectClient, flow: str, name: str) -> DeploymentResponse | None:
    """A flow's deployment of that name; None where there is none."""
    try:
        return client.read_deployment_by_name(f"{flow}/{name}")
    except ObjectNotFound:
        return None


def _flow(deployment: dict[str, Any]) -> str:
    """The name of a deployment's flow: that of its function, with dashes."""
    return str(deployment["entrypoint"]).rpartition(":")[2].replace("_", "-")


def kept(client: SyncPrefectClient, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """The schedules that were set in the UI before: to deploy without naming them would delete them."""
    flow = _flow(deployment)
    known = find(client, flow, deployment["name"]) or find(client, flow, FORMER)
    if known is None:
        return list(deployment.get("schedules", []))
    return [_written(schedule) for schedule in known.schedules]


def _written(known: DeploymentSchedule) -> dict[str, Any]:
    """A schedule as prefect.yaml has it."""
    schedule = known.schedule
    if isinstance(schedule, CronSchedule):
        when: dict[str, Any] = {"cron": schedule.cron, "day_or": schedule.day_or}
    elif isinstance(schedule, IntervalSchedule):
        when = {"interval": schedule.interval.total_seconds(), "anchor_date": str(schedule.anchor_date)}
    elif isinstance(schedule, RRuleSchedule):
        when = {"rrule": schedule.rrule}
    else:
        raise ConfigurationError(f"a schedule of a kind that infra/prefect.yaml cannot hold: {schedule}")
    rest = {"parameters": known.parameters, "slug": known.slug, "timezone": schedule.timezone}
    return {**when, "active": known.active, **{key: value for key, value in rest.items() if value}}
