"""The commands that run flows by schedule and from Prefect's UI: up, down, deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import command, console, enter_root
from stages.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from flows.stack import Part, Stack

POOL = "pointsman"
KINDS = ("process", "docker", "kubernetes")
PoolOption = Annotated[str, typer.Option(help="Name of the work pool.")]
LimitOption = Annotated[int, typer.Option(min=1, help="Runs at a time, of all flows.")]


@command
def up(
    port: Annotated[int, typer.Option(help="Of Prefect's server on loopback; the next one serves reports.")] = 4200,
    limit: LimitOption = 4,
) -> None:
    """Start and schedule runs in Prefect's UI, here.

    A server on this machine's loopback, its database, a worker of this checkout, and the deployments of
    infra/prefect.yaml: retrain (a branch to review), pipeline (in place), evaluate-release, promote, rollback, watch.
    Ctrl-C, or `pointsman down`, ends all of it.
    """
    from flows.server import prepare

    root = enter_root()
    prepare(root, quiet=False)
    _refuse_second(root)
    console.print("Starting Prefect's server, its deployments and a worker ...")
    from flows.stack import standing

    with standing(root, port, _say) as stack:
        _begin(root, stack, limit)
        stack.watch(_restarted)
        console.print("Ended, by `pointsman down`.")


@command
def down() -> None:
    """End what `pointsman up` started here.

    What a killed one left, too. A run under way is stopped; it goes on where it stopped when it is retried.
    """
    from flows.stack import end_stack

    ended = end_stack(enter_root())
    console.print(f"Ended: {', '.join(ended)}." if ended else "Nothing of `pointsman up` runs here.", highlight=False)


@command
def deploy(
    pool: PoolOption = POOL,
    kind: Annotated[str, typer.Option("--type", help="Of the pool: process, docker (Podman too) or kubernetes.")] = (
        "process"
    ),
    limit: LimitOption = 4,
    reset: Annotated[
        bool, typer.Option("--reset", help="Take the schedules of infra/prefect.yaml, not those set in the UI.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="No worker of the pool runs: what is under way in it crashed.")
    ] = False,
) -> None:
    """Make work pool and deployments on a Prefect server.

    The server of $PREFECT_API_URL, or that of `pointsman up`. Made before, they are set up anew; schedules that were
    set in the UI stand.
    """
    import os

    from flows.server import prepare

    root = enter_root()
    if kind not in KINDS:
        raise ConfigurationError(f"there is no pool of type {kind!r}; choose {', '.join(KINDS)}")
    prepare(root)
    if "PREFECT_API_URL" not in os.environ:
        raise ConfigurationError("there is no Prefect server to deploy to: set PREFECT_API_URL, or run pointsman up")
    from flows.deployment import deploy as go
    from flows.pool import start_command

    for name in go(root, pool, kind, limit, reset=reset):  # type: ignore[arg-type]
        console.print(f"deployed {name}", highlight=False)
    if alone:
        _note_crashes(pool)
    words = f"A worker runs them: {start_command(pool, kind)}"  # type: ignore[arg-type]
    console.print(words, highlight=False, soft_wrap=True)


def _refuse_second(root: Path) -> None:
    from flows.server import running_url

    if url := running_url(root):
        raise ConfigurationError(f"pointsman up runs here already: {url.removesuffix('/api')}; end it: pointsman down")


def _begin(root: Path, stack: Stack, limit: int) -> None:
    from flows.deployment import deploy as go
    from flows.stack import worker_of

    _note_crashes(POOL)
    names = go(root, POOL, "process", limit)
    stack.start(worker_of(POOL))
    page = stack.url.removesuffix("/api")
    console.print(f"Open {page}/deployments: {', '.join(names)}.", soft_wrap=True, highlight=False)
    console.print(
        f"Runs: {page}/runs. Reports: {stack.reports}. Logs: .pointsman/logs.", soft_wrap=True, highlight=False
    )
    console.print("Ctrl-C, or `pointsman down`, ends it.")


def _restarted(part: Part) -> None:
    if part.name == "worker":
        _note_crashes(POOL)


def _note_crashes(pool: str) -> None:
    from flows.recovery import note_crashes

    if left := note_crashes(pool):
        console.print(f"To be retried, their process is gone: {', '.join(left)}.", soft_wrap=True, highlight=False)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
