"""The release manager's commands, for flows: a process of the room `publish`, and what it prints as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows import dvc
from flows.dvc_errors import left_error
from stages.shared.errors import PipelineError
from stages.shared.workspace import Workspace

MODULE = "stages.publish.manage"


def manage(root: Path, command: str, name: str, *options: str, by: str | None = None, may_fail: bool = False) -> Any:
    """What `pointsman COMMAND` prints as JSON; `by` is who is written into a channel's history.

    Raises the PipelineError that it left, but for `may_fail`, where it printed its evidence.
    """
    environment = dvc.environment() | ({"POINTSMAN_ACTOR": by} if by else {})
    line = [sys.executable, "-m", MODULE, command, "--json", *options, "--", name]
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and not (may_fail and done.stdout):
        raise left_error(Workspace(root), command) or PipelineError(done.stderr.strip())
    return json.loads(done.stdout)
