"""The command `pointsman watch`: are candidates and release still what they were?"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from flows.command import MARKS, JsonOption, command, console, enter_root


@command
def watch(
    questions: Annotated[int, typer.Option(min=1, help="Asked again of each candidate.")] = 8,
    agreement: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least share of answers that are the profile's.")
    ] = 0.5,
    channel: Annotated[str, typer.Option(help="Whose release is verified.")] = "production",
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain at once where candidates have drifted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask candidates again, and hash the live release.

    A candidate that answers otherwise, or as another model, has drifted: the next `pointsman retrain` profiles again.
    Exit code 1 where something is wrong. To look every night: the deployment watch.
    """
    from flows.server import prepare

    root = enter_root()
    prepare(root)
    with Console(stderr=True).status("Asking ..."):
        from flows.watch import examine, wrong

        found = examine(root, questions, agreement, channel)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for each in found["findings"]:
            mark, colour = MARKS[each["state"]]
            console.print(f"{mark:<6}", style=colour, end="")
            said = f"{each['name']}: {each['found']}" + (f" -> {each['todo']}" if each["todo"] else "")
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    if found["drifted"] and retrain:
        from flows.commands_retrain import retrain as go

        go(settings=None, base="", dry_run=False, keep=False, folder="", as_json=as_json)
        return
    if wrong(found):
        raise typer.Exit(1)
