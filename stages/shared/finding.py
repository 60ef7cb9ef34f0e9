"""What a check of this machine found, and what to do where it is not right."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from stages.shared.errors import PipelineError
from stages.shared.params import Params, load_params

State = Literal["good", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    """`note`: worth knowing, hinders nothing. `wrong`: a run would fail."""
    found: str
    todo: str = ""
    """What makes it right, for a person."""

    @staticmethod
    def of(name: str, error: PipelineError) -> Finding:
        """An error's message, which says what was found, and after its last `; ` what to do."""
        found, _, todo = str(error).rpartition("; ")
        return Finding(name, "wrong", found or todo, todo if found else "")


def run_check(room: str, look: Callable[[Params], Sequence[Finding]], argv: Sequence[str] | None = None) -> int:
    """The edge of a room's checks, `python -m stages.ROOM.check`: parameters in, findings on stdout as JSON.

    An error that the room does not turn into a finding itself becomes one. Returns 0: what was found is no failure.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{room}.check", description=f"What the stage {room} needs of this machine, as JSON."
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: %(default)s)")
    path: Path = parser.parse_args(argv).params
    try:
        findings = list(look(load_params(path)))
    except PipelineError as error:
        findings = [Finding.of(room, error)]
    print(json.dumps([asdict(finding) for finding in findings]))
    return 0


def read_findings(text: str) -> list[Finding]:
    """The findings that a room's check printed; what else was printed before them is passed over.

    Raises ValueError where there are none.
    """
    lines = text.strip().splitlines()
    return [Finding(**entry) for entry in json.loads(lines[-1] if lines else "")]
