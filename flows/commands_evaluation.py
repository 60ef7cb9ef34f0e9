"""Commands about evaluation: two runs compared, and routers fitted on records that others published."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flows.command import JsonOption, app, command, guarded, run_module
from stages.shared.errors import ConfigurationError

records = typer.Typer(no_args_is_help=True, help="Fit routers on tables of records.", rich_markup_mode=None)
app.add_typer(records, name="records")


@command
def diff(
    before: Annotated[str, typer.Argument(help="A git revision, or the folder of a run.")],
    after: Annotated[str, typer.Argument(help="The same; default: this folder.")] = ".",
    method: Annotated[str, typer.Option(help="Whose sets, candidates and flips.")] = "router",
    flips: Annotated[int, typer.Option(min=0, help="Flipped questions to print.")] = 6,
    force: Annotated[bool, typer.Option("--force", help="Compare on common questions alone.")] = False,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, for a review.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with every flip.")] = None,
) -> None:
    """Compare two evaluations, question by question.

    What was set otherwise, what got better or worse and how sure that is, and the questions that flipped with both
    episodes. Refuses, with exit code 2, when questions, their number, the scorer or prices differ, unless --force.
    """
    if as_json and markdown:
        raise ConfigurationError("--json and --markdown are two forms of one output; give one of them")
    options = [
        "--method", method, "--flips", str(flips),
        *(["--force"] if force else []), *(["--json"] if as_json else []), *(["--markdown"] if markdown else []),
        *(["--html", str(html)] if html else []),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
        folders = [_folder(name, Path(scratch) / side) for side, name in (("before", before), ("after", after))]
        names = ["--name-before", before, "--name-after", "this folder" if after == "." else after]
        run_module("stages.evaluate.diff", *options, *names, "--", *map(str, folders), here=True)


@records.command("evaluate")
@guarded
def evaluate_records(
    folder: Annotated[Path, typer.Argument(help="Records of LLMRouter, LLMRouterBench, RouterBench or RouterEval.")],
    methods: Annotated[str, typer.Option(help="Names with commas between; default: all that need no replies.")] = "",
    without: Annotated[list[str] | None, typer.Option(help="A task to leave out (LLMRouter).")] = None,
    seed: Annotated[int, typer.Option(help="Of what learns, and of a split made here.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Fit routers on a folder of records and score them.

    Accuracy, cost, AIQ and time of every method, with the oracle and the best fixed candidate beside.
    """
    options = ["--seed", str(seed), *(["--methods", methods] if methods else []), *(["--json"] if as_json else [])]
    options += [word for task in without or [] for word in ("--without", task)]
    run_module("stages.evaluate.tables", *options, "--", str(folder), here=True)


def _folder(name: str, scratch: Path) -> Path:
    """The folder of a run: the one named, or what DVC and git kept of a revision."""
    if Path(name).is_dir():
        return Path(name)
    from flows import dvc

    dvc.export_run(dvc.find_root(Path.cwd()), name, scratch)
    return scratch
