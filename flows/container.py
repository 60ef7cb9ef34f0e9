"""A stage in a container of Podman or Docker: what it may see, change and take, and that it ends with its launcher."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from flows.needs import Needs
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params.stage import StageParams
from stages.shared.processes import die_with_parent

Engine = Literal["podman", "docker"]
ENGINE_FAILED = (125, 126, 127)
KILLED = 128 + signal.SIGKILL
NOBODY = 10001
"""The user within, where whoever starts it is root."""
NOT_ITS_OWN = ("prefect", "retrains", "sweeps")
"""What else there is under .pointsman, which stays with root."""
SHARED_MEMORY = "2g"


def run_in_container(engine: Engine, stage: str, needs: Needs, limits: StageParams, root: Path) -> int:
    """Run a stage in a fresh container, and return its exit code; a container that a dead launcher left goes first.

    Raises ConfigurationError where the engine is missing or cannot start it, BudgetError where it was killed.
    """
    if shutil.which(engine) is None:
        raise ConfigurationError(f"stage.runtime is {engine}, which is not installed; install it, or set it to process")
    _check_readable(root)
    prepare(needs.writes)
    name = container_name(stage, root)
    subprocess.run([engine, "rm", "--force", name], capture_output=True, check=False)
    code = _wait(engine_command(engine, name, stage, needs, limits, root))
    if code in ENGINE_FAILED:
        raise ConfigurationError(
            f"{engine} could not start {needs.image} (exit code {code}, its words are above); is the image here? "
            f"`make images` makes it"
        )
    if code == KILLED:
        raise BudgetError(f"{stage} was killed; its container may take {limits.memory} of memory: raise stage.memory")
    return code


def container_name(stage: str, root: Path) -> str:
    """One a stage of a checkout."""
    return f"pointsman-{stage}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def engine_command(engine: Engine, name: str, stage: str, needs: Needs, limits: StageParams, root: Path) -> list[str]:
    """The command line. Keys are named, not given: no list of processes shows their values."""
    binds = [
        f"{root}:{root}:ro",
        *(f"{path}:{path}" for path in needs.writes),
        *(f"{path}:{path}:ro" for path in (*others(stage, root), *needs.reads)),
    ]
    variables = [*(f"{name}={value}" for name, value in needs.settings.items()), *needs.keys]
    return [
        engine, "run", "--rm", "--name", name, f"--network={'host' if needs.network else 'none'}", *_user(engine),
        "--read-only", "--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777", f"--shm-size={SHARED_MEMORY}",
        "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--memory={limits.memory}",
        f"--pids-limit={limits.processes}", *(_devices(engine) if needs.gpu else ()),
        *(f"--volume={bind}" for bind in binds), *(f"--env={variable}" for variable in variables),
        f"--workdir={root}", needs.image, "python", "-m", f"stages.{stage}",
    ]  # fmt: skip


def others(stage: str, root: Path) -> list[Path]:
    """Where the other stages' artifacts are, which this one may not change."""
    return [folder for folder in sorted((root / "artifacts").glob("[!.]*")) if folder.name != stage]


def _user(engine: Engine) -> Sequence[str]:
    """Nobody's where root starts it, else the caller's own, so that what it writes is the caller's."""
    podman = ["--security-opt=label=disable"] if engine == "podman" else []
    if os.getuid() == 0:
        return [f"--user={NOBODY}:{NOBODY}", *podman]
    keep = ["--userns=keep-id"] if engine == "podman" else []
    return [f"--user={os.getuid()}:{os.getgid()}", *keep, *podman]


def _devices(engine: Engine) -> Sequence[str]:
    return ["--device=nvidia.com/gpu=all"] if engine == "podman" else ["--gpus=all"]


def _check_readable(root: Path) -> None:
    if os.getuid() == 0 and root.stat().st_mode & 0o005 != 0o005:
        raise ConfigurationError(f"started by root, a stage is nobody, who may not read {root}; run: chmod o+rx {root}")


def prepare(folders: Sequence[Path]) -> None:
    """Make what a stage writes, and let the user within write there."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            _give(folder)


def _give(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in NOT_ITS_OWN:
            _give(path)
        elif not path.is_dir():
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _wait(command: Sequence[str]) -> int:
    """Run it until it ends; what interrupts the launcher, its death too, reaches the stage as SIGTERM, once each."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
    ) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)
