"""One training run: verl started, followed step by step, and ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from stages.shared import errors
from stages.shared.errors import PipelineError
from stages.shared.files import read_end
from stages.shared.params import Params
from stages.shared.progress import Progress, say
from stages.train.ppo.board import board
from stages.train.ppo.collapse import warnings
from stages.train.ppo.config import Paths, compose
from stages.train.ppo.curves import read_logged
from stages.train.ppo.job import VARIABLE, Job
from stages.train.ppo.processes import running
from stages.train.ppo.record import LOGS, read_records
from stages.train.ppo.resume import Start, rewind
from stages.train.ppo.tenure import tenure

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[3]
POLL_S = 0.3
TAIL = 15
"""Lines of verl's log shown with a failure."""
_OURS = re.compile(r"stages\.shared\.errors\.(\w+): (.*)")
_RAISED = re.compile(r"[\w.]*(Error|Exception)\b.*:")


def train(params: Params, job: Job, train_rows: Path, validation_rows: Path, log: Path) -> None:
    """Run PPO to its last step, from the newest checkpoint where there is one.

    The run's folder is `job.notes`. Raises TransientError when the pool failed, PipelineError with the end of verl's
    log otherwise; either way nothing that was started is left running.
    """
    folder, steps = job.notes, params.train.ppo.steps
    checkpoints = folder / "checkpoints"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tenure(folder) as held:
        start = rewind(folder, checkpoints, steps, params.train.ppo.validate_every)
        if is_done(start, steps):
            return
        if start.step:
            say(f"train: going on from the checkpoint of step {start.step}")
        rows = pq.read_metadata(validation_rows).num_rows
        paths = Paths(job.policy, train_rows, validation_rows, checkpoints, held.ray, start, rows)
        settings = _settings(params, job.save(folder / "job.json"), folder)
        command = _command(compose(params, paths), folder, settings)
        environment = {**os.environ, "HOME": os.environ.get("HOME") or str(folder / "cache"), **settings}
        begins = log.stat().st_size if log.exists() else 0
        with running(command, environment, log) as child:
            held.started(child.pid)
            _follow(child, steps, start.step, folder)
    if child.returncode != 0:
        raise _failure(log, begins, child.returncode)


def is_done(start: Start, steps: int) -> bool:
    """Whether there is nothing left to do: the last step is saved and validated."""
    return start.step >= steps and not start.validate


def _command(config: DictConfig, folder: Path, settings: Mapping[str, str]) -> list[str]:
    """Our entry point, on the configuration composed here; `settings` go to the workers of a cluster with it."""
    from omegaconf import OmegaConf

    if config.ray_kwargs.ray_init.get("address"):
        OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars", dict(settings), force_add=True)
    path = folder / "verl.yaml"
    OmegaConf.save(config, path)
    return [sys.executable, "-m", "stages.train.ppo.trainer", str(path)]


def _settings(params: Params, job: Path, folder: Path) -> Mapping[str, str]:
    """What the trainer and everything that Ray starts are told: our plug-in, our job, and no reach outside the run.

    What Ray starts here inherits it. A cluster's workers do not, and a candidate's key is none of these: it would stand
    in Ray's records. There the key belongs into the environment of `ray start`, on every node.
    """
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
    threads = {"OMP_WAIT_POLICY": "PASSIVE", **{name: os.environ.get(name, "1") for name in names}}
    on_cpu = {"VERL_PLATFORM": "cpu"} if params.train.backend == "cpu" else {}
    return {
        **threads,
        **on_cpu,
        VARIABLE: str(job),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "VERL_USE_EXTERNAL_MODULES": "stages.train.ppo.plugin",
        "VERL_FILE_LOGGER_PATH": str(_metrics_file(folder)),
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
    }


def _metrics_file(folder: Path) -> Path:
    """verl truncates the file it logs to, so that each attempt has its own."""
    return folder / f"verl-{len(list(folder.glob(LOGS))):03d}.jsonl"


def _follow(child: subprocess.Popen[bytes], steps: int, shown: int, folder: Path) -> None:
    """Show each training step after `shown` as its notes appear, until the child ends."""
    warned = False
    with Progress("train", total=steps, unit="steps", note="starting verl") as progress, board(folder, shown) as curves:
        progress.advance(shown)
        while True:
            over = child.poll() is not None
            records = read_records(folder)
            for record in records:
                if record.phase == "train" and record.step > shown:
                    progress.advance(record.step - shown, note=str(record))
                    shown = record.step
            curves.show(records, read_logged(folder))
            for warning in [] if warned else warnings(records):
                say(f"train: {warning}")
                warned = True
            if over:
                return
            time.sleep(POLL_S)


def _failure(log: Path, begins: int, code: int) -> PipelineError:
    """What a process of the run raised, in its own words where it is an error of ours; else the end of the log."""
    lines = [line.rstrip() for line in read_end(log, begins)]
    for line in reversed(lines):
        found = _OURS.search(line)
        kind = getattr(errors, found[1], None) if found else None
        if found and isinstance(kind, type) and issubclass(kind, PipelineError):
            return kind(f"training stopped: {found[2]} (see {log})")
    raised = [line for line in lines if _RAISED.match(line)]
    told = "\n  ".join(dict.fromkeys([*raised[-3:], *lines[-TAIL:]]))
    return PipelineError(
        f"training ended with code {code}; nothing up to the last checkpoint is lost. The end of {log}:\n  {told}"
    )
