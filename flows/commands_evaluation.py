"""Commands about evaluation: runs compared, candidates that come and go, routers fitted on others' records."""

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
    before: Annotated[str, typer.Argument(help="A git revision, the folder of a run, or a release.")],
    after: Annotated[str, typer.Argument(help="The same; default: this folder.")] = ".",
    method: Annotated[str, typer.Option(help="Whose sets, candidates and flips.")] = "router",
    flips: Annotated[int, typer.Option(min=0, help="Flipped questions to print.")] = 6,
    force: Annotated[bool, typer.Option("--force", help="Compare on common questions alone.")] = False,
    prices: Annotated[Path | None, typer.Option(help="Count both at these: NAME: PRICE, or a params.yaml.")] = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, for a review.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with every flip.")] = None,
) -> None:
    """Compare two evaluations, question by question.

    What was set otherwise, what got better or worse and how sure that is, and the questions that flipped with both
    episodes. Refuses, with exit code 2, when questions, their number, the scorer or prices differ, unless --force; with
    --prices, what the same calls would have cost at others is compared, and nothing is asked again. A release is named
    by channel, digest or `latest` (with `release:` before it where git knows the name too), and stands for the run that
    it was made from.
    """
    if as_json and markdown:
        raise ConfigurationError("--json and --markdown are two forms of one output; give one of them")
    options = [
        "--method", method, "--flips", str(flips),
        *(["--force"] if force else []), *(["--json"] if as_json else []), *(["--markdown"] if markdown else []),
        *(["--html", str(html)] if html else []), *(["--prices", str(prices)] if prices else []),
    ]  # fmt: skip
    from flows.evaluations import locate

    with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
        folders = [locate(name, Path(scratch) / side) for side, name in (("before", before), ("after", after))]
        names = ["--name-before", before, "--name-after", "this folder" if after == "." else after]
        run_module("stages.evaluate.diff", *options, *names, "--", *map(str, folders), here=True)


@command
def unseen(
    leave_out: Annotated[int, typer.Option(help="How many candidates come or go at a time.")] = 1,
    shots: Annotated[int, typer.Option(min=1, help="Questions of a few-shot profile.")] = 16,
    questions: Annotated[int | None, typer.Option(min=1, help="Of each test set, the first; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Play with candidates that come or go, untrained for.

    The trained router and the baselines with unseen candidates added (known by descriptor, by a few answers, by a whole
    profile) and with candidates of training taken away: accuracy, regret, calls to the new. A baseline that would have
    to be fitted again is said so. Takes minutes; candidates are asked only what was never asked before.
    """
    options = ["--leave-out", str(leave_out), "--shots", str(shots), "--seed", str(seed)]
    options += [*(["--questions", str(questions)] if questions else []), *(["--json"] if as_json else [])]
    run_module("stages.evaluate.unseen", *options)


@command
def figures(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")],
    run: Annotated[Path, typer.Option(help="The folder of a run; default: this one.")] = Path(),
) -> None:
    """Draw the evaluation's plots as SVG and PNG.

    The ranking with intervals, quality over cost, routing shares by test set, calls by hops, calibration.
    """
    run_module("stages.evaluate.figures", "--run", str(run), "--", str(folder), here=True)


@command
def seeds(
    runs: Annotated[list[str], typer.Argument(help="Git revisions, folders of runs or releases, two or more.")],
    as_json: JsonOption = False,
) -> None:
    """Pool runs that differ in their seeds alone.

    Every method's mean over the runs, with an interval over both questions and seeds, and each run's own figure.
    Refuses, with exit code 2, when anything else differs.
    """
    from flows.evaluations import locate

    with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
        folders = [locate(name, Path(scratch) / str(place)) for place, name in enumerate(runs)]
        names = [word for name in runs for word in ("--name", name)]
        options = [*names, *(["--json"] if as_json else [])]
        run_module("stages.evaluate.seeds", *options, "--", *map(str, folders), here=True)


@records.command("evaluate")
@guarded
def evaluate_records(
    folder: Annotated[Path, typer.Argument(help="Records of LLMRouter, LLMRouterBench, RouterBench or RouterEval.")],
    methods: Annotated[
        str,
        typer.Option(help="Names with commas between; default: all that need neither replies nor, as bert, minutes."),
    ] = "",
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
