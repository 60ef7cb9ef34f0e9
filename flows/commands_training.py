"""Commands about training: whether this machine can do it, and how its results depend on parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.command import JsonOption, command, console
from stages.shared.errors import ConfigurationError

if TYPE_CHECKING:
    from flows.doctor import Group

MARKS = {"good": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}


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
