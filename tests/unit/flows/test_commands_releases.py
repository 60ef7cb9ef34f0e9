"""The release manager's commands, as far as they are more than a module of `stages`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_serve_becomes_the_server_so_that_signals_reach_it_and_its_own_help_is_shown() -> None:
    code = "import sys, os, flows.command, flows.cli\n" + (
        "os.execve = lambda path, command, environment: print(path, *command[1:], os.getcwd())\n"
        "sys.argv[1:] = ['serve', 'production', '--rate', '5', '--help']\nflows.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = "-m stages.publish.serving production --rate 5 --help"
    assert done.stdout.split("\n")[0] == f"{sys.executable} {said} {ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "serve", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage: pointsman serve" in done.stdout
