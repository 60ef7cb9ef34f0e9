"""A work pool of Prefect: where the runs of the flows take place, and what they may take.

process       in the checkout that the worker stands in
docker        in a container of the CPU's image, which sees the checkout alone; Podman's socket serves it too
kubernetes    in a job that mounts the volume which holds the checkout, and starts one a stage
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.workers.process import ProcessWorker

from flows.container import NOBODY
from flows.process import CHECKOUT
from stages.shared.errors import ConfigurationError
from stages.shared.params import Params

Kind = Literal["process", "docker", "kubernetes"]
PACKAGES = {"docker": "prefect-docker", "kubernetes": "prefect-kubernetes"}
NOT_INSTALLED = ("kubernetes",)
"""What only a worker of that kind needs, and the environment does not hold."""
ACCOUNT = "infra/kubernetes/pool.yaml"
HOME = "/tmp/prefect"
REGISTRY = "aggregate-worker-metadata"
LOCAL_IMAGE = "localhost/pointsman-cpu"


def make_pool(client: SyncPrefectClient, name: str, kind: Kind, limit: int, root: Path, params: Params) -> None:
    """Create the pool, or set it up anew: at most `limit` runs at a time.

    Raises ConfigurationError where there is one of that name and another kind, or none of this kind can be made.
    """
    known = client.read_work_pools()
    if any(pool.name == name and pool.type != kind for pool in known):
        raise ConfigurationError(f"there is a work pool {name!r} of another type; choose another: --pool NAME")
    template = _shaped(_default(client, kind), kind, root, params)
    wanted = WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit)
    client.create_work_pool(wanted, overwrite=True)


def start_command(name: str, kind: Kind) -> str:
    """How a worker of the pool is started, and what it needs first."""
    needs = f"pip install {PACKAGES[kind]}, then, as {ACCOUNT} says: " if kind in NOT_INSTALLED else ""
    return f"{needs}prefect worker start --pool {name} --type {kind}"


def _default(client: SyncPrefectClient, kind: Kind) -> dict[str, Any]:
    """Prefect's own template: its server knows those of the packages that only a worker needs."""
    if kind == "process":
        return ProcessWorker.get_default_base_job_template()
    found = client.request("GET", "/collections/views/{view}", path_params={"view": REGISTRY}).json()
    template: dict[str, Any] = found[PACKAGES[kind]][kind]["default_base_job_configuration"]
    return copy.deepcopy(template)


def _shaped(template: dict[str, Any], kind: Kind, root: Path, params: Params) -> dict[str, Any]:
    if kind == "docker":
        return _in_containers(template, root, params)
    if kind == "kubernetes":
        return _in_jobs(template, root, params)
    return template


def _in_containers(template: dict[str, Any], root: Path, params: Params) -> dict[str, Any]:
    owner = root.stat()
    image = params.stage.images.cpu or LOCAL_IMAGE
    _default_values(
        template, env=_environment(root), image=image, volumes=[f"{root}:{root}"], network_mode="host",
        auto_remove=True, mem_limit=params.stage.memory, image_pull_policy="IfNotPresent" if "@" in image else "Never",
    )  # fmt: skip
    template["job_configuration"]["container_create_kwargs"] = {
        "user": f"{owner.st_uid}:{owner.st_gid}", "working_dir": str(root), "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}, "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"], "pids_limit": params.stage.processes,
    }  # fmt: skip
    return template


def _in_jobs(template: dict[str, Any], root: Path, params: Params) -> dict[str, Any]:
    place, image = params.stage.kubernetes, params.stage.images.cpu
    if image is None:
        raise ConfigurationError(
            "stage.images.cpu names no image for a cluster to pull: push one, give NAME@sha256:…, and set "
            "stage.runtime to kubernetes"
        )
    if not root.is_relative_to(place.mount):
        raise ConfigurationError(f"{root} is not below {place.mount}, where a cluster mounts {place.claim}")
    memory = f"{params.stage.memory[:-1]}{params.stage.memory[-1].upper()}i"
    _default_values(
        template, env=_environment(root), image=image, namespace=place.namespace, service_account_name="worker",
        finished_job_ttl=24 * 3600, memory_limit=memory, memory_request="2Gi", cpu_request="1",
    )  # fmt: skip
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["securityContext"] = {
        "runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    pod["volumes"] = [
        {"name": "work", "persistentVolumeClaim": {"claimName": place.claim}}, {"name": "tmp", "emptyDir": {}}
    ]  # fmt: skip
    pod["containers"][0] |= {
        "envFrom": [{"secretRef": {"name": place.secret, "optional": True}}],
        "volumeMounts": [{"name": "work", "mountPath": place.mount}, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    return template


def _environment(root: Path) -> dict[str, str]:
    return {
        CHECKOUT: str(root), "PYTHONPATH": str(root), "PREFECT_HOME": HOME, "HOME": "/tmp", "USER": "pointsman",
        "DVC_SITE_CACHE_DIR": "/tmp/dvc",
    }  # fmt: skip


def _default_values(template: dict[str, Any], **values: Any) -> None:
    for name, value in values.items():
        template["variables"]["properties"][name]["default"] = value
