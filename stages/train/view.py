"""The training that runs, or ran last, in the terminal: `python -m stages.train.view`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live

from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.workspace import Workspace
from stages.train.ppo.stage import DONE
from stages.train.ppo.tenure import is_alive
from stages.train.ppo.view import Run, picture
from stages.train.run_folder import READS

REFRESH_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Show it until it is over; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.train.view", description=__doc__)
    parser.add_argument("--once", action="store_true", help="show how it stands, and leave")
    parser.add_argument("--json", action="store_true", help="the records of every step")
    parser.add_argument("--run", type=Path, help="folder of a run; default: the newest under .pointsman/runs/train")
    options = parser.parse_args(argv)
    try:
        folder = options.run or newest(Workspace(Path.cwd()).runs("train"))
        show(folder, once=options.once, as_json=options.json)
    except PipelineError as error:
        print(f"pointsman: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


def newest(runs: Path) -> Path:
    """The folder of the PPO run that was begun last. Raises ConfigurationError where there is none."""
    found = sorted(runs.glob(f"ppo-*/{READS}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError(f"no PPO run under {runs} yet; `pointsman run` begins one")
    return found[-1].parent


def show(folder: Path, *, once: bool, as_json: bool) -> None:
    """Print the run, live while another process trains in it. Raises ConfigurationError where `folder` is none."""
    if not (folder / READS).is_file():
        raise ConfigurationError(f"{folder}: no PPO run, it has no {READS}; look under .pointsman/runs/train")
    run = Run.read(folder)
    if as_json:
        print(json.dumps({"run": run.name, "steps": run.steps, "records": [asdict(record) for record in run.records]}))
        return
    console = Console()
    if once or not console.is_terminal or not _running(folder):
        console.print(picture(run))
        return
    with Live(picture(run), console=console, auto_refresh=False) as live:
        while _running(folder):
            time.sleep(REFRESH_S)
            live.update(picture(Run.read(folder)), refresh=True)


def _running(folder: Path) -> bool:
    return not (folder / DONE).exists() and is_alive(folder)


if __name__ == "__main__":
    sys.exit(main())
