"""What a job needs of the API of a Kubernetes cluster. A refusal is an error that says what to do."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, cast

import httpx2
import stamina
from lightkube import ApiError, Client
from lightkube.core.exceptions import ConfigError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod
from lightkube.types import CascadeType
from stamina import Attempt
from stamina.instrumentation import RetryDetails
from yaml import YAMLError

from stages.shared.errors import ConfigurationError, ConflictError, PipelineError, TransientError
from stages.shared.params.stage import Kubernetes

GONE_S = 120.0
"""How long what was deleted may take to be gone: the stage has 30 s to end in."""
UNANSWERED_S = 300.0
"""How long the cluster may give no answer, while the job runs on."""
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
MANIFESTS = "infra/kubernetes"
MALFORMED = (AttributeError, LookupError, TypeError, ValueError, AssertionError)
"""What comes of a file that is YAML, and leads to no cluster."""


def patiently() -> Iterable[Attempt]:
    """Attempts at what the cluster may not answer now, for UNANSWERED_S."""
    return stamina.retry_context(on=TransientError, attempts=None, timeout=UNANSWERED_S, wait_max=10.0)


def _say(details: RetryDetails) -> None:
    if details.retry_num == 1:
        print(f"{details.caused_by}; it is asked again", flush=True)


stamina.instrumentation.set_on_retry_hooks((_say,))


class Cluster:
    """The cluster of the pod that this runs in, else that of KUBECONFIG, or of ~/.kube/config.

    Every call raises TransientError where the cluster does not answer or is busy, and ConfigurationError where it
    refuses.
    """

    def __init__(self, place: Kubernetes) -> None:
        self._namespace = place.namespace
        try:
            self._client = Client(namespace=place.namespace)
        except (ConfigError, YAMLError, *MALFORMED, OSError) as error:
            raise ConfigurationError(
                f"there is no way to a Kubernetes cluster: {error}; start this in a pod of the cluster "
                f"({MANIFESTS}/base.yaml), or set KUBECONFIG to a file that leads to one"
            ) from error

    def create(self, job: dict[str, Any]) -> None:
        """Make a job of its manifest. Raises ConflictError where there is one of that name."""
        with self._told("create a job"):
            self._client.create(cast(Job, Job.from_dict(job)))

    def end(self, name: str) -> None:
        """Delete a job with its pod, and wait until both are gone; there may be none."""
        deadline = time.monotonic() + GONE_S
        while self._delete(name):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the job {name} is deleted and not gone after {GONE_S:.0f} s; is its node gone? "
                    f"kubectl --namespace {self._namespace} get pods --selector job-name={name}"
                )
            time.sleep(0.5)

    def _delete(self, name: str) -> bool:
        """Whether there still is one."""
        try:
            with self._told("delete a job"):
                self._client.delete(Job, name, cascade=CascadeType.FOREGROUND)
        except AbsentError:
            return False
        return True

    def pod(self, name: str) -> Pod | None:
        """The newest pod of a job."""
        with self._told("look at pods"):
            pods = list(self._client.list(Pod, labels={"job-name": name}))
        return max(pods, key=lambda pod: _made(pod), default=None)

    def owners(self) -> list[dict[str, Any]]:
        """The pod that this runs in, if it is one: its jobs go when it goes, whatever became of its processes."""
        if IN_CLUSTER not in os.environ:
            return []
        with self._told("look at pods"):
            pods = list(self._client.list(Pod, fields={"metadata.name": socket.gethostname()}))
        found = [pod.metadata for pod in pods if pod.metadata]
        return [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid} for pod in found]

    def failure(self, name: str) -> str | None:
        """Why a job was given up; None while it is not."""
        try:
            with self._told("look at a job"):
                job = self._client.get(Job, name)
        except AbsentError:
            return "somebody deleted it"
        found = job.status.conditions if job.status else None
        return next((item.message or item.type for item in found or () if (item.type, item.status) == FAILED), None)

    def log(self, pod: str, seconds: int | None) -> list[str]:
        """The lines that a pod wrote in the last seconds, or ever, each after its time."""
        with self._told("read a pod's log"):
            return list(self._client.log(pod, since=seconds, timestamps=True, newlines=False))

    def warnings(self, name: str) -> list[str]:
        """What the cluster says of a job or a pod, as far as it is kept, and may be read."""
        try:
            with self._told("look at events"):
                found = list(self._client.list(Event, fields={"involvedObject.name": name, "type": "Warning"}))
        except PipelineError:
            return []
        return list(dict.fromkeys(item.message for item in found if item.message and item.reason != SCHEDULING))

    @contextmanager
    def _told(self, deed: str) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise self._refused(deed, error.status.code or 0, error.status.message or str(error)) from error
        except httpx2.HTTPStatusError as error:
            raise self._refused(deed, error.response.status_code, str(error)) from error
        except ConfigError as error:
            raise ConfigurationError(f"cannot {deed}: {error}; look at KUBECONFIG") from error
        except httpx2.TransportError as error:
            raise _unanswered(deed, error) from error

    def _refused(self, deed: str, code: int, said: str) -> PipelineError:
        text = f"the cluster refuses to {deed} in the namespace {self._namespace}: {said}"
        if code == HTTPStatus.NOT_FOUND:
            return AbsentError(f"{text}; kubectl apply --filename {MANIFESTS}/, or set stage.kubernetes.namespace")
        if code == HTTPStatus.UNAUTHORIZED:
            return ConfigurationError(f"{text}; its credentials are not, or no longer, good: log in anew")
        if code == HTTPStatus.FORBIDDEN:
            return ConfigurationError(f"{text}; the role `worker` of {MANIFESTS}/base.yaml is what jobs need")
        if code == HTTPStatus.CONFLICT:
            return ConflictError(f"{text}; another run of this checkout is under way, or has just ended")
        if code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            return ConfigurationError(f"{text}; look at the section stage of params.yaml")
        return TransientError(f"{text} (HTTP {code})")


class AbsentError(ConfigurationError):
    """There is no such thing, or no such namespace."""


FAILED = ("Failed", "True")
SCHEDULING = "FailedScheduling"
"""What the pod's own condition says too, as long as it holds."""


def _made(pod: Pod) -> str:
    """When, in UTC; as text it sorts like the time."""
    return str(pod.metadata.creationTimestamp) if pod.metadata else ""


def _unanswered(deed: str, error: httpx2.TransportError) -> PipelineError:
    where = f"{error.request.url.host}:{error.request.url.port}"
    if isinstance(error.__context__, ssl.SSLError) or "CERTIFICATE" in str(error):
        return ConfigurationError(f"the cluster at {where} is not trusted: {error}; look at KUBECONFIG")
    return TransientError(f"the cluster at {where} does not answer, to {deed}: {error or type(error).__name__}")
