"""A stage as a Kubernetes job, which mounts the volume that holds the checkout. Never run on a cluster: its manifests
are checked against Kubernetes' schemas, its calls against a recorder of `kubectl`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows.container import KILLED, NOBODY, SHARED_MEMORY, container_name
from flows.needs import Needs
from stages.shared.errors import BudgetError, ConfigurationError, TransientError
from stages.shared.params.stage import Kubernetes, StageParams

START = "30m"
"""How long a pod may wait for a place and its image."""
SETTLED_S = 30.0
"""How long after its log has ended a pod may take to say how."""
KEPT_S = 24 * 3600
LABEL = "pointsman.dev/network"
"""`none` or `open`: infra/kubernetes/network.yaml closes the network of the former."""


def run_as_job(stage: str, needs: Needs, params: StageParams, root: Path) -> int:
    """Run a stage as a job, pass its log on, and return its exit code; an interrupt deletes the job.

    Raises ConfigurationError where there is no kubectl, or the checkout is not on the volume, TransientError where the
    job does not start, BudgetError where it was killed for its memory.
    """
    if shutil.which("kubectl") is None:
        raise ConfigurationError("stage.runtime is kubernetes, and there is no kubectl; install it where flows run")
    job, place = manifest(stage, needs, params, root), params.kubernetes
    name = job["metadata"]["name"]
    for folder in needs.writes:
        folder.mkdir(parents=True, exist_ok=True)
    _kubectl(place, "delete", "job", name, "--ignore-not-found", "--wait")
    _kubectl(place, "create", "--filename=-", given=json.dumps(job))
    with ExitStack() as otherwise:
        otherwise.callback(_kubectl, place, "delete", "job", name, "--ignore-not-found", "--wait=false")
        _follow(place, name)
        code = _exit_code(place, name)
        otherwise.pop_all()
    if code == KILLED:
        raise BudgetError(f"{stage} was killed; its job may take {params.memory} of memory: raise stage.memory")
    return code


def manifest(stage: str, needs: Needs, params: StageParams, root: Path) -> dict[str, Any]:
    """The job (batch/v1). Raises ConfigurationError where what the stage reads or writes is not on the volume."""
    labels = {"app": "pointsman", "stage": stage, LABEL: "open" if needs.network else "none"}
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(stage, needs, params, root)],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": params.kubernetes.claim}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _quantity(SHARED_MEMORY)}},
        ],
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": container_name(stage, root), "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _container(stage: str, needs: Needs, params: StageParams, root: Path) -> dict[str, Any]:
    variables: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in sorted(needs.settings.items())]
    variables += [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": params.kubernetes.secret, "key": key}}}
        for key in needs.keys
    ]
    limits = {"memory": _quantity(params.memory), **({"nvidia.com/gpu": "1"} if needs.gpu else {})}
    return {
        "name": "stage",
        "image": needs.image,
        "args": ["python", "-m", f"stages.{stage}"],
        "workingDir": str(root),
        "env": variables,
        "resources": {"requests": {"cpu": "2", **limits}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *_mounts(needs, params.kubernetes, root),
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip


def _mounts(needs: Needs, place: Kubernetes, root: Path) -> Iterator[dict[str, Any]]:
    bound = [(root, True), *((path, False) for path in needs.writes), *((path, True) for path in needs.reads)]
    for path, read_only in bound:
        if not path.is_relative_to(place.mount):
            raise ConfigurationError(
                f"{path} is not below {place.mount}, where the volume claim {place.claim} is mounted; "
                "have it there, or set stage.kubernetes.mount"
            )
        where = path.relative_to(place.mount).as_posix()
        yield {"name": "work", "mountPath": str(path), "subPath": where, "readOnly": read_only}


def _quantity(size: str) -> str:
    """`12g` as Kubernetes writes it."""
    return f"{size[:-1]}{size[-1].upper()}i"


def _follow(place: Kubernetes, name: str) -> None:
    command = ["kubectl", f"--namespace={place.namespace}", "logs", "--follow", f"--pod-running-timeout={START}"]
    subprocess.run([*command, f"job/{name}"], check=False)


def _exit_code(place: Kubernetes, name: str) -> int:
    deadline = time.monotonic() + SETTLED_S
    while True:
        found = json.loads(_kubectl(place, "get", "pods", f"--selector=job-name={name}", "--output=json"))
        states = [status["state"] for pod in found["items"] for status in pod["status"].get("containerStatuses", [])]
        for state in states:
            if "terminated" in state:
                code: int = state["terminated"]["exitCode"]
                return code
        if time.monotonic() > deadline:
            raise TransientError(f"the job {name} did not run: {json.dumps(states)}; see `kubectl describe job {name}`")
        time.sleep(1)


def _kubectl(place: Kubernetes, *arguments: str, given: str = "") -> str:
    command = ["kubectl", f"--namespace={place.namespace}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TransientError(f"kubectl {arguments[0]} failed; is the cluster there? {done.stderr.strip()}")
    return done.stdout
