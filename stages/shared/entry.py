"""The edge of every stage: parameters in, exit code out, one clear message when something is wrong."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from stages.shared.errors import BudgetError, ConfigurationError, PipelineError
from stages.shared.files import FULL, write_json
from stages.shared.params import Params, load_params
from stages.shared.workspace import Workspace

INTERRUPTED = 130
FRESH = "POINTSMAN_FRESH"


def run_stage(name: str, work: Callable[[Params, Workspace], None], argv: Sequence[str] | None = None) -> int:
    """Run a stage's work on the parameters named on the command line and return its exit code.

    A PipelineError becomes a message on stderr and `.pointsman/errors/<name>.json` {kind, message, retryable}, which
    the flow reads because DVC loses exit codes. SIGTERM unwinds like Ctrl-C, so that what the stage started stops too.
    """
    path = _parse(name, argv)
    workspace = Workspace(Path.cwd())
    workspace.errors(name).unlink(missing_ok=True)
    _unwind_when_stopped()
    try:
        work(load_params(path), workspace)
    except KeyboardInterrupt:
        return _interrupted(name)
    except PipelineError as error:
        return _report(name, workspace, error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _report(name, workspace, _disk_full(error))
    return 0


def run_command(work: Callable[[], None]) -> int:
    """Run what a command does that is no stage's work, and return its exit code.

    A PipelineError becomes a message on stderr. SIGTERM unwinds like Ctrl-C.
    """
    _unwind_when_stopped()
    try:
        work()
    except KeyboardInterrupt:
        return _interrupted("pointsman")
    except PipelineError as error:
        print(f"pointsman: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def fresh_since() -> float | None:
    """POINTSMAN_FRESH, seconds since 1970: replies recorded before are asked for again. None where it is not set.

    A time rather than a yes, so that what is tried again asks nothing twice. Raises ConfigurationError for no number.
    """
    text = os.environ.get(FRESH, "")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise ConfigurationError(f"{FRESH}={text!r} is no time; give seconds since 1970, as `date +%s` does") from error


def _parse(name: str, argv: Sequence[str] | None) -> Path:
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=f"The stage {name} of the pipeline.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: %(default)s)")
    path: Path = parser.parse_args(argv).params
    return path


def _unwind_when_stopped() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _unwind)


def _interrupted(name: str) -> int:
    print(f"{name}: interrupted; nothing is lost, the same command goes on from here", file=sys.stderr)
    return INTERRUPTED


def _unwind(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _disk_full(error: OSError) -> BudgetError:
    where = f", writing {error.filename}" if error.filename else ""
    return BudgetError(f"no disk space left{where}; free some (`dvc gc -w` drops old artifacts) and run again")


def _report(name: str, workspace: Workspace, error: PipelineError) -> int:
    said = str(error).encode(errors="replace").decode()  # a file's name need not be UTF-8, and JSON must
    print(f"{name}: {error.kind} error: {said}", file=sys.stderr)
    try:
        write_json(workspace.errors(name), {"kind": error.kind, "message": said, "retryable": error.retryable})
    except OSError as second:
        print(f"{name}: could not keep the error for the flow: {second}", file=sys.stderr)
    return error.exit_code
