"""What the state of a stage's pod says: what it waits for, that it runs, or how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from lightkube.models.core_v1 import ContainerState, ContainerStateTerminated, PodStatus
from lightkube.resources.core_v1 import Pod

from flows.container import KILLED
from stages.shared.errors import BudgetError, ConfigurationError, TransientError

STUCK = (
    "InvalidImageName", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError",
    "CreateContainerError", "RunContainerError",
)  # fmt: skip
"""Why a container does not start and, for all that the cluster can do, will not."""
NOT_STARTED = ("StartError", "ContainerCannotRun")


@dataclass(frozen=True)
class Waits:
    """It has not begun."""

    why: str
    stuck: bool = False
    """Whether a person has to do something."""


@dataclass(frozen=True)
class Runs:
    """It has begun."""


@dataclass(frozen=True)
class Ended:
    """By itself, with this exit code."""

    code: int


def name_of(pod: Pod) -> str:
    """Its name; empty while there is none."""
    return (pod.metadata.name if pod.metadata else None) or ""


def begun(pod: Pod) -> bool:
    """Whether it has, or had, something to say."""
    state = _state(pod)
    return state is not None and (state.running is not None or state.terminated is not None)


def _state(pod: Pod) -> ContainerState | None:
    container = next(iter((pod.status or PodStatus()).containerStatuses or ()), None)
    return container.state if container else None


def look(pod: Pod, stage: str, memory: str) -> Waits | Runs | Ended:
    """Where a stage's pod is.

    Raises BudgetError where it took too much, TransientError where the cluster took its pod away, ConfigurationError
    where its command cannot start.
    """
    status, state = pod.status or PodStatus(), _state(pod)
    if status.reason == "Evicted":
        raise _evicted(stage, status.message or "")
    if state and state.terminated:
        deleted = pod.metadata is not None and pod.metadata.deletionTimestamp is not None
        return Ended(_exit_code(state.terminated, stage, memory, deleted=deleted))
    if status.phase == "Failed":
        raise TransientError(f"{stage}'s pod failed: {status.reason or 'no reason given'}: {status.message or ''}")
    return Runs() if state and state.running else _waits(status, state)


def _waits(status: PodStatus, state: ContainerState | None) -> Waits:
    waiting = state.waiting if state else None
    if waiting and waiting.reason in STUCK:
        return Waits(f"{waiting.reason}: {waiting.message or ''}", stuck=True)
    held = [item for item in status.conditions or () if item.type == "PodScheduled" and item.status == "False"]
    if held:
        return Waits(f"no node takes it: {held[0].message or held[0].reason}")
    return Waits(waiting.reason if waiting and waiting.reason else "not yet on a node")


def _exit_code(ended: ContainerStateTerminated, stage: str, memory: str, *, deleted: bool) -> int:
    if ended.reason == "OOMKilled" or (ended.exitCode == KILLED and not deleted):
        raise BudgetError(f"{stage} was killed; its job may take {memory} of memory: raise stage.memory")
    if ended.reason in NOT_STARTED:
        raise ConfigurationError(
            f"{stage} could not start in its image: {ended.message or ended.reason}; is it one that `make images` made?"
        )
    if deleted and ended.exitCode:
        raise TransientError(f"{stage}'s pod was deleted while it ran, by somebody, or with its node; run it again")
    return ended.exitCode


def _evicted(stage: str, said: str) -> BudgetError | TransientError:
    if "exceeds" in said:
        return BudgetError(f"{stage}'s pod was evicted for what it took: {said}")
    return TransientError(f"{stage}'s pod was evicted, its node has not enough: {said}; run it again")
