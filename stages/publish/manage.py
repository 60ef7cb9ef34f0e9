"""A release manager's commands: `python -m stages.publish.manage COMMAND`, and `pointsman COMMAND`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages.publish.endpoint import open_store
from stages.shared.entry import run_stage
from stages.shared.params import Params
from stages.shared.workspace import Workspace

NAMES = ("releases", "show", "history", "verify", "promote", "rollback", "pull", "collect")
WRITING = frozenset({"promote", "rollback", "collect"})
WORK = "stages.publish.commands"
"""What the commands do: slow to load, and nothing needs it before there is a store."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, do what it says, print; return the exit code."""
    given = _parser().parse_args(argv)

    def _work(params: Params, workspace: Workspace) -> None:
        if given.command == "keys":
            _make_keys(given)
            return
        writing = given.command in WRITING
        with open_store(params.publish, workspace.state, writing=writing, ahead=[WORK]) as store:
            from stages.publish.commands import COMMANDS
            from stages.publish.printing import Printer
            from stages.publish.promotion import Desk

            COMMANDS[given.command](Desk.at(store, params, workspace), given, Printer(given.json))

    return run_stage(given.command, _work, ["--params", str(given.params)])


def _make_keys(given: argparse.Namespace) -> None:
    from stages.publish.printing import Printer
    from stages.publish.signature import make_keys

    make_keys(given.path)
    Printer(given.json).keys(given.path)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="as JSON, for programs")
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: %(default)s)")
    parser = argparse.ArgumentParser(prog="python -m stages.publish.manage", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name, parents=[common]) for name in (*NAMES, "keys")}
    for name in ("show", "promote", "pull"):
        made[name].add_argument("name", help="digest, its first digits, `latest` or a channel")
    made["verify"].add_argument("name", nargs="?", help="digest or channel (default: the whole store)")
    for name in ("history", "rollback"):
        made[name].add_argument("channel")
    for name in ("promote", "rollback"):
        made[name].add_argument("--reason", default="", help="kept in the history of the channel")
        made[name].add_argument("--expect", type=int, help="only if the channel is at this number (0: new)")
    for name in ("promote", "rollback", "verify"):
        made[name].add_argument("--events", type=Path, help="also write the moves that were made, or verified, here")
    made["promote"].add_argument("--to", required=True, help="the channel")
    made["promote"].add_argument("--override", help="promote though gates fail, for this reason")
    made["pull"].add_argument("--to", type=Path, help="the folder (default: .pointsman/releases/DIGEST)")
    made["collect"].add_argument("--older-than", type=float, default=7.0, help="days (default: %(default)s)")
    for name in ("promote", "rollback", "collect"):
        made[name].add_argument("--dry-run", action="store_true", help="say what would happen, and change nothing")
    made["keys"].add_argument("path", type=Path, help="of the private key; the public one goes to PATH.pub")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
