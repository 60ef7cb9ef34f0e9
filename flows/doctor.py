"""Whether this machine can run a set of parameters: every room looks at what it knows of, all at once."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from flows import dvc
from flows.container import Engine
from stages.shared.files import read_text
from stages.shared.finding import Finding, State, read_findings
from stages.shared.params import Params, load_params
from stages.shared.pool.reach import check_pool
from stages.shared.workspace import Workspace

CODE = Path(__file__).resolve().parents[1]
ROOMS = ("ingest", "train", "publish")
PATIENCE_S = 300.0
PYTHON = (3, 11)
PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)")
SHOWN = 4
GIB = 1 << 30


@dataclass(frozen=True)
class Group:
    """Findings about one subject."""

    subject: str
    findings: tuple[Finding, ...]


def examine(root: Path, parameters: Path) -> list[Group]:
    """What every part of a run would meet here. Raises ConfigurationError for parameters that do not parse."""
    params = load_params(parameters)
    with ThreadPoolExecutor() as workers:
        rooms = [workers.submit(_room, root, room, parameters) for room in ROOMS]
        pool = workers.submit(check_pool, params.pool, params.world, Workspace(root).state)
        machine = Group("machine", tuple(_machine(root, params)))
        ingest, train, publish = (Group(name, tuple(work.result())) for name, work in zip(ROOMS, rooms, strict=True))
        return [machine, train, ingest, Group("candidates", pool.result()), publish]


def _room(root: Path, room: str, parameters: Path) -> Sequence[Finding]:
    """A room is asked in a process of its own, since it loads what this one should not."""
    command = [sys.executable, "-m", f"stages.{room}.check", "--params", str(parameters)]
    try:
        done = subprocess.run(
            command, cwd=root, env=dvc.environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return read_findings(done.stdout)
    except subprocess.TimeoutExpired:
        return [Finding(room, "wrong", f"its check did not end within {PATIENCE_S:.0f} s", "try again")]
    except ValueError:
        said = (done.stderr.strip().splitlines() or [f"nothing, with exit code {done.returncode}"])[-1]
        return [Finding(room, "wrong", f"its check failed: {said}", f"run: {' '.join(command[1:])}")]


def _machine(root: Path, params: Params) -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    right = sys.version_info[:2] == PYTHON
    yield Finding("Python", "good" if right else "wrong", found, "" if right else "make setup with Python 3.11")
    yield Finding("cores", "good", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}")
    memory = psutil.virtual_memory()
    yield Finding("memory", "good", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")
    disk = shutil.disk_usage(root)
    yield Finding("disk", "good", f"{disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free")
    runtime = params.stage.runtime
    if runtime in ("podman", "docker"):
        yield check_engine(runtime, params.stage.images.cpu)
    on_gpu = params.train.backend == "gpu"
    pins = CODE / ("infra/images/requirements-gpu.txt" if on_gpu else "requirements.lock")
    yield packages(pins, f"pip install -r {pins.relative_to(CODE)}" if on_gpu else "make setup")


def check_engine(engine: Engine, image: str | None) -> Finding:
    """Whether stages can run in containers here: the engine is there, and has the image, or may pull it."""
    if shutil.which(engine) is None:
        return Finding(engine, "wrong", "is not installed", f"install {engine}, or set stage.runtime to process")
    if image is None:
        return Finding(engine, "wrong", "stage.images names no image", "make images")
    done = subprocess.run([engine, "image", "inspect", image], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding(engine, "good", f"has {image}")
    said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    state: State = "note" if "@" in image else "wrong"
    return Finding(engine, state, f"has no {image} ({said})", "make images" if state == "wrong" else "it is pulled")


def packages(pins: Path, remedy: str) -> Finding:
    """Whether what a file pins is installed: a package that is missing is wrong, another version worth a note."""
    wanted = dict(PINNED.findall(read_text(pins)))
    installed = {name: _installed(name) for name in wanted}
    missing = [name for name, found in installed.items() if found is None]
    other = [
        f"{name} {found} for {wanted[name]}" for name, found in installed.items() if found not in (None, wanted[name])
    ]
    if missing:
        return Finding("packages", "wrong", f"{len(missing)} of {pins.name} missing: {_some(missing)}", remedy)
    if other:
        return Finding("packages", "note", f"{len(other)} differ from {pins.name}: {_some(other)}", remedy)
    return Finding("packages", "good", f"{len(wanted)} at the versions of {pins.name}")


def _installed(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
