"""What every command of `pointsman` is made with: the application, its errors and exit codes, its folder."""

from __future__ import annotations

import functools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from typer.core import TyperGroup

from stages.shared.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from flows.dvc import StageStatus
    from flows.estimate import Expected

INTERRUPTED = 130
STOP_SECONDS = {signal.SIGTERM: 30.0, signal.SIGKILL: 5.0}
"""For a module to unwind. SIGTERM, since Python answers SIGINT with a traceback until the module listens."""
P = ParamSpec("P")
ORDER = (
    "run", "plan", "use", "status", "metrics", "ask", "serve", "releases", "show", "history", "promote", "rollback",
    "verify", "pull", "keys", "collect", "diff", "seeds", "unseen", "figures", "records", "doctor", "sweep", "retrain",
    "watch", "up", "down", "deploy", "training",
)  # fmt: skip
"""Of the commands in the list that help shows, as in README.md: what one begins with, then what one does later."""


class InOrder(TyperGroup):
    """Lists its commands in ORDER, not as their modules happen to be imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name; one that has no place yet comes last."""
        return sorted(self.commands, key=[*ORDER, *self.commands].index)


app = typer.Typer(
    name="pointsman",
    cls=InOrder,
    help="Learn to route questions between LLMs: questions in, a trained, evaluated, published router out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
MARKS = {"good": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}
"""A finding's state, in a word that any terminal can show."""
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
BudgetOption = Annotated[
    float | None, typer.Option(metavar="USD", help="Stop before candidates cost more; what is done is kept.")
]
HoursOption = Annotated[float | None, typer.Option(metavar="HOURS", help="Stop then; what is done is kept.")]


def check_limits(budget: float | None, hours: float | None) -> None:
    """Raises ConfigurationError for amounts that are not above 0."""
    for name, value in (("--budget", budget), ("--hours", hours)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigurationError(f"{name} is {value}; give a number above 0")


def command(work: Callable[P, None]) -> Callable[P, None]:
    """Make a function a command of `pointsman`."""
    guarded_work = guarded(work)
    app.command()(guarded_work)
    return guarded_work


def guarded(work: Callable[P, None]) -> Callable[P, None]:
    """A command's work whose errors are one clear message and an exit code."""

    @functools.wraps(work)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        """The work, its errors told."""
        try:
            work(*args, **kwargs)
        except PipelineError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            complain("interrupted; nothing is lost, the same command goes on from here")
            raise typer.Exit(INTERRUPTED) from stop

    return told


def enter_root() -> Path:
    """The repository's root, made the working folder, with parameters that parse."""
    from flows import dvc
    from stages.shared.params import load_params

    root = dvc.find_root(Path.cwd())
    os.chdir(root)
    load_params()
    return root


def run_module(module: str, *arguments: str, here: bool = False) -> NoReturn:
    """Run a module of `stages` in a process of its own, and leave with its exit code.

    It runs in the repository, or `here`: in the folder where the user stands, since that is where named paths begin. A
    Ctrl-C reaches this process alone, which ends the other and waits for it.
    """
    from flows import dvc
    from stages.shared.processes import die_with_parent, end

    folder, command = None if here else dvc.find_root(Path.cwd()), [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=dvc.environment(), start_new_session=True, preexec_fn=die_with_parent
    )
    try:
        raise typer.Exit(process.wait())
    except KeyboardInterrupt:
        end(process, STOP_SECONDS)
        code = process.poll()
        if code is None or code < 0:  # it had not come so far as to say so
            raise
        raise typer.Exit(code) from None


def become_module(module: str, *arguments: str) -> NoReturn:
    """Go on as a module of `stages`, in the repository, so that signals reach it and nobody stands in between."""
    from flows import dvc

    os.chdir(dvc.find_root(Path.cwd()))
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], dvc.environment())


def show_stages(planned: Iterable[StageStatus], expected: Mapping[str, Expected] = MappingProxyType({})) -> None:
    """Every stage, whether it would run, what that would take, and why."""
    from flows.estimate import describe

    for item in planned:
        takes = describe(expected[item.stage]) if item.stage in expected else ""
        said = f"would run: {takes}" if takes else "would run" if item.stale else "up to date"
        console.print(f"{item.stage:<10}{said}", highlight=False)
        for reason in item.reasons:
            console.print(f"            {reason}", markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Say on stderr what is wrong."""
    Console(stderr=True).print(f"pointsman: {text}", markup=False, highlight=False, soft_wrap=True)
