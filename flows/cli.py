"""The command `pointsman`."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

import flows.commands_evaluation
import flows.commands_releases
import flows.commands_retrain
import flows.commands_server
import flows.commands_training
import flows.commands_watch  # noqa: F401  (the six register their commands)
from flows.command import (
    BudgetOption,
    HoursOption,
    JsonOption,
    app,
    check_limits,
    command,
    console,
    enter_root,
    run_module,
    show_stages,
)
from stages.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from flows.estimate import Expected

NONE_YET = "No evaluation yet: pointsman run"


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a run failed, 2 something to configure, 130 interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    signal.signal(signal.SIGTERM, _interrupt)
    _print_anywhere()
    app()


def _print_anywhere() -> None:
    """Where output cannot be UTF-8, a sign that it lacks is a question mark, and no end of the command, nor of what
    this starts.
    """
    encoding = (sys.stdout.encoding or "utf-8").lower()
    if encoding.replace("-", "") == "utf8":
        return
    os.environ["PYTHONIOENCODING"] = f"{encoding}:replace"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"pointsman {installed('pointsman')}")
        raise typer.Exit


@command
def run(
    only: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run even what is current.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Evaluate with new replies of the candidates.")] = False,
    budget: BudgetOption = None,
    hours: HoursOption = None,
) -> None:
    """Run what is out of date, and go on where a run stopped.

    The stages: ingest, profile, train, evaluate, publish. An evaluation asks candidates only what none asked before;
    with --fresh it runs even where it is current, and asks everything again.
    """
    from flows import dvc
    from flows.server import prepare

    check_limits(budget, hours)
    root = enter_root()
    stages = dvc.plan(root, fresh=fresh)
    _check_stage(only, [item.stage for item in stages])
    stale = [item.stage for item in stages if only in (None, item.stage) and (item.stale or force)]
    if not stale:
        console.print(f"Nothing to run: {only or 'every stage'} is up to date with its code, data and parameters.")
        return
    prepare(root)
    given = {"stage": only or "all", "force": force, "fresh": fresh, "budget": budget, "hours": hours}
    _run(root, given, [only] if only else [item.stage for item in stages], stale)
    _show_metrics(root)


@command
def plan(
    questions: Annotated[int | None, typer.Option(min=1, help="Extrapolate to so many test questions.")] = None,
    candidates: Annotated[int | None, typer.Option(min=1, help="Extrapolate to so many candidates.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would run and why, what it would take, and run nothing.

    Calls to candidates, dollars and minutes are the last run's, times what the parameters change of its size; with
    --questions or --candidates, times what a run of that size would be.
    """
    from flows import dvc
    from flows.estimate import expect

    root = enter_root()
    if questions or candidates:
        _show_larger(root, questions, candidates, as_json)
        return
    stages = dvc.plan(root)
    expected = {item.stage: expect(root, item.stage) for item in stages if item.stale}
    if as_json:
        rows = [asdict(item) | {"stale": item.stale} for item in stages]
        rows = [row | {"expected": asdict(expected[row["stage"]]) if row["stale"] else None} for row in rows]
        print(json.dumps(rows, indent=2))
        return
    show_stages(stages, expected)
    if expected:
        console.print(_told(expected), markup=False, highlight=False, soft_wrap=True)


@command
def use(profile: Annotated[str, typer.Argument(help="A name in infra/profiles.")]) -> None:
    """Write a named parameter set into params.yaml."""
    from flows import dvc
    from flows.profiles import BEFORE, use_profile

    changed = use_profile(dvc.find_root(Path.cwd()), profile)
    for line in changed:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    kept = f"; the former one is kept in {BEFORE}" if changed else " already"
    console.print(f"params.yaml is the profile {profile}{kept}.", highlight=False, soft_wrap=True)


@command
def status(as_json: JsonOption = False) -> None:
    """Say what is up to date and what was measured last."""
    from flows import dvc
    from flows.report import read_metrics

    root = enter_root()
    stages = dvc.plan(root)
    if as_json:
        print(json.dumps({"stages": {s.stage: s.stale for s in stages}, "metrics": read_metrics(root)}, indent=2))
        return
    for item in stages:
        console.print(f"{item.stage:<10}{'out of date' if item.stale else 'up to date'}", highlight=False)
    if not _show_metrics(root):
        console.print(NONE_YET)


@command
def metrics(as_json: JsonOption = False) -> None:
    """Show every method, averaged over the test sets."""
    from flows import dvc
    from flows.report import read_metrics

    root = dvc.find_root(Path.cwd())
    if as_json:
        print(json.dumps(read_metrics(root), indent=2, ensure_ascii=False))
        return
    if not _show_metrics(root):
        console.print(NONE_YET)


@command
def ask(
    question: str,
    release: Annotated[
        str | None, typer.Option(help="Channel, digest, its first digits, or `latest`; default: published last here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the published router one question."""
    options = [*(["--release", release] if release else []), *(["--json"] if as_json else [])]
    run_module("stages.publish.ask", *options, "--", question)


def _show_larger(root: Path, questions: int | None, candidates: int | None, as_json: bool) -> None:
    from flows.estimate import SIMULATED, candidates_of, describe
    from flows.extrapolation import SETS, beyond, extrapolate
    from flows.memory import machine_mib
    from stages.shared.params import load_params

    params = load_params()
    questions = questions or SETS * params.ingest.sizes.test
    candidates = candidates or round(candidates_of(params.model_dump()))
    found = extrapolate(root, questions, candidates)
    if as_json:
        print(json.dumps({"questions": questions, "candidates": candidates, "stages": [asdict(each) for each in found]},
                         indent=2))  # fmt: skip
        return
    console.print(f"{questions:,} test questions, {candidates} candidates, else as params.yaml:", highlight=False)
    for each in found:
        said = describe(each.found) or "not known: no figures of an earlier run"
        memory = f"; memory {each.memory}" if each.memory else ""
        console.print(f"{each.stage:<10}{said} ({each.why}{memory})", markup=False, highlight=False, soft_wrap=True)
    if stages := beyond(found, machine_mib()):
        words = f"More than the memory of this machine: {', '.join(stages)}. Measure the questions in several runs."
        console.print(words, highlight=False, soft_wrap=True)
    if params.pool.kind in SIMULATED:
        console.print("The dollars are simulated.", highlight=False)


def _told(expected: dict[str, Expected]) -> str:
    """What a run would come to, in a sentence."""
    from flows.estimate import SIMULATED, describe, total
    from stages.shared.params import load_params

    unknown = [stage for stage, each in expected.items() if None in (each.calls, each.usd, each.seconds)]
    rest = f"; not known of {', '.join(unknown)}, without figures of an earlier run" if unknown else ""
    simulated = "; the dollars are simulated" if load_params().pool.kind in SIMULATED else ""
    return f"Expected in all: {describe(total(expected)) or 'not known'}{rest}{simulated}."


def _check_stage(name: str | None, known: list[str]) -> None:
    if name is not None and name not in known:
        raise ConfigurationError(f"no stage is called {name!r}; there are: {', '.join(known)}")


def _run(root: Path, given: dict[str, Any], stages: list[str], stale: list[str]) -> None:
    from flows.display import make_display
    from flows.own_server import connected, server_for

    console.print(f"To run: {', '.join(stale)}.", highlight=False)
    with console.status("Starting Prefect ..."):
        server = server_for(root)
        from flows.pipeline import pipeline
        from flows.reporter import watched_by

        server.wait()
    with make_display(console, stages, stale) as display, watched_by(display), connected(server, display.said):
        pipeline(**given)


def _show_metrics(root: Path) -> bool:
    from flows.report import HEADINGS, read_metrics, rows

    found = rows(read_metrics(root))
    if found:
        table = Table(*HEADINGS, title="Averages over the test sets", title_justify="left")
        for row in found:
            table.add_row(*row.cells, style="bold" if row.method == "router" else None)
        console.print(table)
    return bool(found)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
