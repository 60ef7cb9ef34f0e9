"""The PPO step of the train stage: rows written, candidates up, verl run, the best checkpoint found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.shared.errors import IntegrityError
from stages.shared.files import write_json
from stages.shared.params import Params
from stages.shared.policy import load_tokenizer
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.pool.client import HttpPool
from stages.shared.pool.ledger import FOLDER, Place, finish_ledger
from stages.shared.pool.serving import serve
from stages.shared.pool.setting import setting
from stages.shared.progress import say
from stages.shared.questions import Question
from stages.shared.sandbox.lexicon import TRAINING_NAMES
from stages.shared.workspace import Workspace
from stages.train.ppo.checkpoint import best_step
from stages.train.ppo.config import check_batches
from stages.train.ppo.data import check_lengths, training_order, write_rows
from stages.train.ppo.job import Job
from stages.train.ppo.record import read_records
from stages.train.ppo.resume import sealed_steps
from stages.train.ppo.run import train

DONE = "done.json"
"""Says that a run folder's last step is saved and validated."""


@dataclass(frozen=True)
class Inputs:
    """What PPO learns from."""

    training: Sequence[Question]
    validation: Sequence[Question]
    descriptors: Sequence[Descriptor]
    """Of seen candidates."""


def ppo(params: Params, policy: Path, inputs: Inputs, folder: Path, state: Path) -> int:
    """Train `policy` in `folder` and return the selected step, whose weights are under `folder`/checkpoints.

    Goes on from the newest checkpoint of an earlier attempt. Raises the errors of `train`, and ConfigurationError for
    batch sizes and prompts that do not fit.
    """
    check_batches(params)
    checkpoints, done = folder / "checkpoints", folder / DONE
    if not (done.exists() and sealed_steps(checkpoints)):
        rows = _write(params, policy, inputs, folder)
        ledger = Place(Workspace(state.resolve().parent).runs(FOLDER), "train", setting(params.pool, params.world))
        with serve(params.pool, params.world, state) as candidates:
            seen = tuple(candidate for candidate in candidates if candidate.seen)
            asyncio.run(_check(seen, params))
            job = _job(params, policy, inputs, seen, folder, ledger)
            train(params, job, *rows, log=state / "logs" / "train.log")
        write_json(done, {"steps": params.train.ppo.steps})
        say(f"train: {finish_ledger(ledger)}")
    return best_step(read_records(folder), checkpoints)


def _write(params: Params, policy: Path, inputs: Inputs, folder: Path) -> tuple[Path, Path]:
    """Training and validation rows; the same on every attempt."""
    settings, seed = params.train, params.train.seed
    paths = folder / "train.parquet", folder / "validation.parquet"
    order = training_order(inputs.training, settings.ppo, seed)
    prompts: list[str] = []
    for path, questions in zip(paths, (order, inputs.validation), strict=True):
        known, names = inputs.descriptors, TRAINING_NAMES
        prompts += write_rows(path, questions, known, settings.roster, names, params.episode, f"{path.name} {seed}")
    check_lengths(prompts, load_tokenizer(policy), params.episode)
    return paths


def threads() -> int:
    """Threads for a process that computes: POINTSMAN_THREADS, or half the cores that this process may use.

    Virtual cores come in pairs that share one unit, and the servers of a run want some: a second thread on two virtual
    cores made an update slower, not faster.
    """
    return int(os.environ.get("POINTSMAN_THREADS") or max(1, len(os.sched_getaffinity(0)) // 2))


async def _check(candidates: Sequence[Candidate], params: Params) -> None:
    async with HttpPool(candidates, params.pool.limits) as pool:
        await pool.check()


def _job(params: Params, policy: Path, inputs: Inputs, seen: tuple[Candidate, ...], folder: Path, ledger: Place) -> Job:
    unknown = sorted({known.name for known in inputs.descriptors} - {candidate.name for candidate in seen})
    if unknown:
        raise IntegrityError(f"measured but not in the pool: {', '.join(unknown)}; run the profile stage again")
    return Job(
        policy=policy.resolve(), notes=folder.resolve(), candidates=seen, descriptors=tuple(inputs.descriptors),
        limits=params.pool.limits, ledger=ledger, episode=params.episode, reward=params.reward, seed=params.train.seed,
        threads=threads(), keep=params.train.ppo.keep,
    )  # fmt: skip
