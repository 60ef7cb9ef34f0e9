"""A stage as a Kubernetes job, which mounts the volume that holds the checkout; it ends with its launcher."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightkube.resources.core_v1 import Pod

from flows.cluster import AbsentError, Cluster, patiently
from flows.container import NOBODY, SHARED_MEMORY, container_name, others, prepare
from flows.guard import guarded
from flows.needs import Needs
from flows.pod import Ended, Waits, begun, look, name_of
from stages.shared.errors import ConfigurationError, PipelineError, TransientError
from stages.shared.params.stage import Kubernetes, StageParams

START_S = 1800.0
"""How long a pod may wait for a place and its image."""
STUCK_S = 60.0
"""How long it may be unable to start for a reason that a person has to look at."""
TICK_S = 1.0
OVERLAP_S = 5
TIMED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|[+-]\d\d:\d\d) ")
"""When a line was written: its fraction lacks zeros at its end. What a carriage return begins anew has no time."""
KEPT_S = 24 * 3600
LABEL = "pointsman.dev/network"
"""`none` or `open`: infra/kubernetes/network.yaml closes the network of the former."""


def run_as_job(stage: str, needs: Needs, params: StageParams, root: Path) -> int:
    """Run a stage as a job, pass its log on, and return its exit code; an interrupt ends the job.

    Raises ConfigurationError where there is no way to the cluster, it refuses, or the checkout is not on the volume,
    TransientError where it does not answer, or takes the pod away, BudgetError where the stage took too much.
    """
    job, cluster = manifest(stage, needs, params, root), Cluster(params.kubernetes)
    name = job["metadata"]["name"]
    job["metadata"]["ownerReferences"] = cluster.owners()
    prepare(needs.writes)
    cluster.end(name)
    with guarded(params.kubernetes, name), ExitStack() as otherwise:
        otherwise.callback(_end, cluster, params.kubernetes, name)
        cluster.create(job)
        code = _attend(cluster, stage, name, params.memory)
        otherwise.pop_all()
    return code


def _end(cluster: Cluster, place: Kubernetes, name: str) -> None:
    try:
        cluster.end(name)
    except PipelineError as error:
        way = f"kubectl --namespace {place.namespace} delete job {name}"
        print(f"the job {name} may run on: {error}; end it: {way}", file=sys.stderr)


def _attend(cluster: Cluster, stage: str, name: str, memory: str) -> int:
    """Pass on what the stage writes until it ends."""
    start, log, followed = _Start(stage), _Log(cluster), ""
    while True:
        pod = _pod(cluster, stage, name)
        if followed and name_of(pod) != followed:
            raise TransientError(f"{stage}'s pod was deleted, by somebody or with its node; run it again")
        followed = name_of(pod)
        if begun(pod):
            log.show(name_of(pod))
        found = look(pod, stage, memory)
        if isinstance(found, Ended):
            return found.code
        if isinstance(found, Waits):
            start.wait(replace(found, why="; ".join([found.why, *cluster.warnings(name_of(pod) or name)])))
        time.sleep(TICK_S)


def _pod(cluster: Cluster, stage: str, name: str) -> Pod:
    """The job's pod; an empty one while there is none.

    Raises TransientError where the cluster is silent for long, or the pod is lost.
    """
    for attempt in patiently():
        with attempt:
            pod = cluster.pod(name)
            given_up = cluster.failure(name) if pod is None else None
    if given_up:
        raise TransientError(f"{stage}'s job lost its pod: {given_up}; run it again")
    return pod or Pod()


class _Start:
    """How long a pod may take to begin."""

    def __init__(self, stage: str) -> None:
        self._stage, self._begun, self._told = stage, time.monotonic(), ""
        self._stuck: float | None = None

    def wait(self, found: Waits) -> None:
        """Say what it waits for, once. Raises ConfigurationError, or TransientError, when it has waited long enough."""
        now = time.monotonic()
        if found.why != self._told:
            self._told = found.why
            print(f"{self._stage} waits: {found.why}", flush=True)
        self._stuck = (self._stuck or now) if found.stuck else None
        if self._stuck is not None and now - self._stuck >= STUCK_S:
            raise ConfigurationError(f"{self._stage}'s pod cannot start: {found.why}")
        if now - self._begun >= START_S:
            raise TransientError(f"{self._stage}'s pod has not begun in {START_S / 60:.0f} minutes: {found.why}")


class _Log:
    """Passes a pod's log on, every line once: it is asked for what is new, since a stream may break, or be silent."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: float | None = None
        self._last = ""

    def show(self, pod: str) -> None:
        """Print what is new. What cannot be had now is asked for again the next time."""
        now = time.monotonic()
        try:
            lines = self._cluster.log(pod, None if self._asked is None else int(now - self._asked) + OVERLAP_S)
        except (AbsentError, TransientError):
            return
        self._asked, new = now, False
        for line in lines:
            timed = TIMED.match(line)
            if timed:
                moment = f"{timed[1]}.{timed[2] or '':0<9}"
                new = moment > self._last
                self._last = max(moment, self._last)
            if new:
                print(line[timed.end() :] if timed else line, flush=True)


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
        "resources": {"requests": {"cpu": params.kubernetes.cpu, **limits}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *_mounts(stage, needs, params.kubernetes, root),
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip


def _mounts(stage: str, needs: Needs, place: Kubernetes, root: Path) -> Iterator[dict[str, Any]]:
    read = (*others(stage, root), *needs.reads)
    bound = [(root, True), *((path, False) for path in needs.writes), *((path, True) for path in read)]
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
