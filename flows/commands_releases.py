"""The release manager's commands of `pointsman`: what was published, who serves it, promote, take back, use."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flows.command import JsonOption, app, become_module, command, complain, console, guarded, run_module
from stages.shared.files import read_json

MODULE = "stages.publish.manage"
Name = Annotated[str, typer.Argument(help="A channel, a digest, its first digits, or `latest`.")]
Channel = Annotated[str, typer.Argument(help="For example production.")]
Reason = Annotated[str, typer.Option(help="Kept in the history of the channel.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


@command
def releases(as_json: JsonOption = False) -> None:
    """List what was published, newest first."""
    _manage("releases", as_json)


@command
def show(name: Name, as_json: JsonOption = False) -> None:
    """Show what is in a release and what it measured."""
    _manage("show", as_json, "--", name)


@command
def history(channel: Channel, as_json: JsonOption = False) -> None:
    """List every move of a channel."""
    _manage("history", as_json, "--", channel)


@command
def verify(
    name: Annotated[str | None, typer.Argument(help="A release or a channel; default: the whole store.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash what is stored again, and check its history.

    Every file of every release, signatures by trusted keys and identities, and that the channels' histories have no gap
    and no fork.
    What a promoter that died did not write down, in the store or in the journal (git tags release/STORE/…), is written
    down.
    """
    _move("verify", as_json, *(["--", name] if name else []))


@command
def promote(
    name: Name,
    to: Annotated[str, typer.Option(help="The channel, for example production.")],
    reason: Reason = "",
    override: Annotated[
        str | None, typer.Option(help="Promote though gates fail, for this reason, which is recorded.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Let a channel serve a release that passes its gates.

    The gates are in infra/gates.yaml, the evidence in the release's own metrics.
    """
    options = [f"--to={to}", f"--reason={reason}", *(["--dry-run"] if dry_run else [])]
    options += [] if override is None else [f"--override={override}"]
    _move("promote", as_json, *options, "--", name)


@command
def rollback(channel: Channel, reason: Reason = "", dry_run: DryRun = False, as_json: JsonOption = False) -> None:
    """Take the newest promotion of a channel back."""
    _move("rollback", as_json, f"--reason={reason}", *(["--dry-run"] if dry_run else []), "--", channel)


@command
def pull(
    name: Name,
    to: Annotated[Path | None, typer.Option(help="The folder; a release that is there is replaced.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a release, verified."""
    _manage("pull", as_json, *(["--to", str(to.absolute())] if to else []), "--", name)


@command
def keys(
    path: Annotated[Path, typer.Argument(help="Of the private key; the public one goes to PATH.pub.")],
    as_json: JsonOption = False,
) -> None:
    """Make a pair of keys that signs releases."""
    _manage("keys", as_json, "--", str(path.absolute()))


@command
def collect(
    older_than: Annotated[float, typer.Option(help="Days; longer than any publish takes.")] = 7.0,
    dry_run: DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what dead publishers left in the store."""
    _manage("collect", as_json, "--older-than", str(older_than), *(["--dry-run"] if dry_run else []))


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@guarded
def serve(context: typer.Context) -> None:
    """Serve a channel to OpenAI clients."""
    become_module("stages.publish.serving", *context.args)


def _manage(name: str, as_json: bool, *arguments: str) -> None:
    run_module(MODULE, name, *(["--json"] if as_json else []), *arguments)


def _move(name: str, as_json: bool, *arguments: str) -> None:
    """As `_manage`, and the moves that the command made or saw go into the journal."""
    from flows import dvc, journal

    root = dvc.find_root(Path.cwd())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.json"
        try:
            _manage(name, as_json, "--events", str(path), *arguments)
        except typer.Exit as ended:
            code = ended.exit_code
        left = read_json(path) if path.exists() else None
    if left is not None and name != "verify":
        journal.note(root, left["store"], left["events"][0], complain)
    elif left is not None and code == 0:
        written = journal.repair(root, left["store"], left["events"], whole="--" not in arguments)
        if written and not as_json:
            console.print(f"the journal had no {', '.join(written)}; written now", soft_wrap=True, highlight=False)
    raise typer.Exit(code)
