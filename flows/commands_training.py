"""Commands about training: whether this machine can do it, and how its results depend on parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command import MARKS, JsonOption, become_module, command, complain, console
from stages.shared.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from flows.doctor import Group
    from flows.frontier import Mark
    from flows.sweep import Point


@command
def doctor(
    profile: Annotated[str | None, typer.Option(help="A name in infra/profiles; default: params.yaml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether this machine can run the parameters.

    Looks at Python, packages, memory, GPUs, question files and the store, plans the memory of PPO, and asks every
    candidate for its models, which costs nothing. Exit code 2 when something is to be configured.
    """
    from flows import dvc
    from flows.doctor import examine
    from flows.profiles import profile_path

    root = dvc.find_root(Path.cwd())
    parameters = root / "params.yaml" if profile is None else profile_path(root, profile)
    with console.status("Looking at this machine ..."):
        groups = examine(root, parameters)
    wrong = sum(finding.state == "wrong" for group in groups for finding in group.findings)
    if as_json:
        print(json.dumps({"can_run": not wrong, "groups": [asdict(group) for group in groups]}, indent=2))
    else:
        _show(groups)
        verdict = f"{wrong} to configure before this can run." if wrong else "This machine can run it."
        console.print(verdict, highlight=False)
    if wrong:
        raise typer.Exit(ConfigurationError.exit_code)


def _show(groups: list[Group]) -> None:
    for group in groups:
        console.print(group.subject, style="bold")
        for finding in group.findings:
            mark, colour = MARKS[finding.state]
            first, *rest = finding.found.splitlines()
            console.print(f"  [{colour}]{mark:<6}[/]", end="")
            for line in (f"{finding.name}: {first}", *(f"            {line}" for line in rest if line)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            if finding.todo:
                console.print(f"        -> {finding.todo}", markup=False, highlight=False, soft_wrap=True)


@command
def training(
    once: Annotated[bool, typer.Option("--once", help="Show how it stands, and leave.")] = False,
    folder: Annotated[Path | None, typer.Option("--run", help="Folder of a run; default: the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Watch PPO in the terminal: curves, routing, an episode.

    Live while it runs, in another terminal, until it is over or you press Ctrl-C, which stops the view alone.
    """
    options = [*(["--once"] if once else []), *(["--json"] if as_json else [])]
    become_module("stages.train.view", *options, *(["--run", str(folder.resolve())] if folder else []))


@command
def sweep(
    axes: Annotated[list[str], typer.Argument(help="KEY=VALUE,VALUE…, e.g. reward.cost_coefficient=0,0.3,0.6.")],
    seeds: Annotated[str, typer.Option(help="Values of train.seed, e.g. 1,2,3.")] = "",
    only_from: Annotated[str | None, typer.Option(help="Refuse if a stage before this one would run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run every combination of some values, and draw cost and quality.

    Each is a DVC experiment, up to the evaluation, in a folder of its own: this checkout is not changed. One runs at a
    time. Interrupt it whenever you like: the same command goes on with those that are not done.
    """
    from flows.command import enter_root
    from flows.frontier import marks, write_frontier
    from flows.sweep import plan_sweep, run_sweep

    root = enter_root()
    grid = plan_sweep(root, axes, _seeds(seeds), only_from)
    _warn_untracked(root)
    with console.status(f"{len(grid.points)} experiments ...") as status:
        failed = run_sweep(
            grid, show=status.update, tell=lambda line: complain(line) if as_json else console.print(line)
        )
    done = grid.done()
    if done:
        with console.status("pooling seeds ..."):
            found = marks(_by_values(done), grid.pools(done))
        synthetic = any(evaluation.get("router", {}).get("synthetic") for evaluation in done.values())
        page = write_frontier(grid.folder, " x ".join(axes), found, synthetic)
        _show_frontier(found, page, as_json)
    for point, words in failed.items():
        complain(f"{point} failed; its last words:\n{words}")
    if failed:
        raise typer.Exit(PipelineError.exit_code)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigurationError(f"--seeds {text!r} are no whole numbers; write them as 1,2,3") from error


def _warn_untracked(root: Path) -> None:
    from flows import experiments

    loose = experiments.untracked(root)
    if loose:
        complain(f"git does not know {', '.join(loose[:3])}{' …' if loose[3:] else ''}: experiments run without them")


def _by_values(done: dict[Point, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for point, evaluation in done.items():
        found.setdefault(point.setting, []).append(evaluation)
    return found


def _show_frontier(found: list[Mark], page: Path, as_json: bool) -> None:
    from rich.table import Table

    from flows.frontier import HEADINGS

    if as_json:
        print(json.dumps({"page": str(page), "marks": [asdict(mark) for mark in found]}, indent=2))
        return
    table = Table(*HEADINGS, title="Averages over the test sets", title_justify="left")
    for mark in found:
        table.add_row(*mark.cells, style="bold" if mark.swept else None)
    console.print(table)
    console.print(f"The figure: {page}", highlight=False, soft_wrap=True)
