"""Whether the store of releases answers: `python -m stages.publish.check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.publish.endpoint import open_store
from stages.publish.seaweed import find_binary
from stages.shared.errors import PipelineError
from stages.shared.finding import Finding, run_check
from stages.shared.params import Params
from stages.shared.workspace import Workspace


def store(params: Params) -> Sequence[Finding]:
    """A configured store is tried as publishing does; of the embedded server only the binary is looked for."""
    try:
        if params.publish.folder is None and params.publish.endpoint is None:
            return [Finding("store", "good", f"embedded SeaweedFS, {find_binary()}")]
        with open_store(params.publish, Workspace(Path.cwd()).state, writing=True) as opened:
            return [Finding("store", "good", f"{opened.place} takes conditional writes")]
    except PipelineError as error:
        return [Finding.of("store", error)]


if __name__ == "__main__":
    raise SystemExit(run_check("publish", store))
