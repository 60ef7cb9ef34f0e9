"""The command `pointsman retrain`: a branch to review, or why there is none."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.command import BudgetOption, HoursOption, JsonOption, check_limits, command, console, enter_root, show_stages


@command
def retrain(
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter, e.g. ingest.seed=8; repeat it.")
    ] = None,
    base: Annotated[str, typer.Option(help="Start from this branch, or REMOTE/BRANCH; default: the one here.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why, and run nothing.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the work folder of a success.")] = False,
    folder: Annotated[str, typer.Option(help="Work below this folder; default: .pointsman/retrains.")] = "",
    budget: BudgetOption = None,
    hours: HoursOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain in a clone, and offer the result as a branch.

    Starts from the newest commit of a branch, runs what is out of date, and pushes parameters, dvc.lock and metrics as
    a branch `retrain/DATE-ID`, with a pull request where infra/forge.yaml names a forge. Without a change there is no
    branch. This checkout stays as it is. After a failure, the same command goes on.
    """
    from flows.settings import parse_settings

    check_limits(budget, hours)
    values, root = parse_settings(settings or []), enter_root()
    shown = Console(stderr=True) if as_json else console
    _warn_uncommitted(root, shown)
    if dry_run:
        _show_plan(root, values, base, folder, as_json)
        return
    given = {"settings": values, "base": base, "keep": keep, "folder": folder, "budget": budget, "hours": hours}
    found = _run(root, shown, given)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for line in _told(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run(root: Path, shown: Console, given: dict[str, Any]) -> dict[str, Any]:
    from flows.display import make_display
    from flows.own_server import connected, server_for
    from flows.server import prepare

    prepare(root)
    with shown.status("Starting Prefect ..."):
        server = server_for(root)
        from flows.reporter import watched_by
        from flows.retrain import retrain as flow

        server.wait()
    with make_display(shown, [], []) as display, watched_by(display), connected(server, display.said):
        found: dict[str, Any] = flow(**given)
    return found


def _show_plan(root: Path, values: dict[str, Any], base: str, folder: str, as_json: bool) -> None:
    from flows.base import find_base
    from flows.drift import with_mark
    from flows.work_folder import find_folder, known_offer, rehearse

    start, values = find_base(root, base), with_mark(root, values)
    place = find_folder(root, folder, start, values)
    known = known_offer(root, place, start, values)
    planned = () if known else rehearse(root, place, start, values)
    if as_json:
        stages = [asdict(item) | {"stale": item.stale} for item in planned]
        print(json.dumps({"base": start.name, "commit": start.commit, "offered": known, "stages": stages}, indent=2))
        return
    console.print(f"From {start.name} at {start.commit[:12]}:", highlight=False)
    show_stages(planned)
    if known:
        console.print(f"Nothing would run: offered already as {known}.", highlight=False, soft_wrap=True)


def _warn_uncommitted(root: Path, shown: Console) -> None:
    from flows import dvc

    if dvc.revision(root).endswith("+"):
        words = "Changes here that are not committed are left out: a retrain starts from a commit."
        shown.print(words, soft_wrap=True)


def _told(found: dict[str, Any]) -> list[str]:
    if found["branch"] is None:
        return [f"Nothing new, no branch: {found['note']}."]
    lines = [f"To review: {found['branch']} in {found['remote'] or 'this repository'}, commit {found['commit'][:12]}."]
    lines += [f"Pull request: {found['pull_request']}"] if found["pull_request"] else []
    return [*lines, f"Work folder: {found['folder']}"] if found["folder"] else lines
