"""The warm start: a base policy and a profile's records in, a policy that keeps to the protocol out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from stages.shared.files import atomic_folder
from stages.shared.params import Params
from stages.shared.policy import load_policy, load_tokenizer
from stages.shared.pool.candidate import Descriptor
from stages.shared.progress import Progress, say
from stages.shared.questions import Question
from stages.train.warm_start.demonstrations import Teacher
from stages.train.warm_start.records import read_records
from stages.train.warm_start.sft import Example, Recipe, fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As `torch.cpu.get_capabilities` names them, on x86_64 and aarch64."""
WEIGHTS = (".safetensors", ".safetensors.index.json")


def warm_start(
    base: Path,
    records: Path,
    descriptors: Sequence[Descriptor],
    questions: Sequence[Question],
    params: Params,
    out: Path,
) -> tuple[float, ...]:
    """Fine-tune the policy in `base` on episodes demonstrated from `records` and write it to `out`, atomically.

    `questions` are those that were profiled; only seen candidates are shown. Returns the loss of each step, nats a
    token. With no steps `out` is a copy of `base`. Deterministic by `train.seed`.

    Raises DataError when the records answer no question.
    """
    settings = params.train.warm_start
    if settings.steps == 0:
        with atomic_folder(out) as part:
            shutil.copytree(base, part, dirs_exist_ok=True)
        return ()
    teacher = Teacher(
        records=read_records(records),
        descriptors=tuple(known for known in descriptors if known.seen),
        roster=params.train.roster,
        episode=params.episode,
        decompose=settings.decompose,
        tokenizer=load_tokenizer(base),
        thrifty=params.reward.counts_cost,
    )
    lessons = teacher.lessons(questions)
    say(f"train: {len(lessons)} of {len(questions)} profiling questions can be demonstrated")
    examples = (Example.of(shown.episode) for shown in teacher.demonstrate(lessons, params.train.seed))
    model = _load(base, params)
    losses = []
    with Progress("train", total=settings.steps, unit="warm-start steps") as progress:
        for loss in fit(model, examples, recipe(params)):
            losses.append(loss)
            progress.advance(1, note=f"loss {loss:.3f}")
    _save(model, base, out)
    return tuple(losses)


def recipe(params: Params) -> Recipe:
    """The tiny policy learns in full and in fp32; a larger one keeps its embeddings, and takes bf16 where that pays."""
    settings = params.train.warm_start
    tiny = params.train.policy.kind == "tiny"
    return Recipe(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        compute="bfloat16" if not tiny and has_fast_bf16(params.train.backend) else "float32",
        freeze_embeddings=not tiny,
    )


def has_fast_bf16(backend: Literal["cpu", "gpu"]) -> bool:
    """Whether bf16 products are faster than fp32 ones; a CPU without instructions for them takes 10 times as long."""
    known = torch.cpu.get_capabilities()
    return backend == "gpu" or any(known.get(name, False) for name in BF16_INSTRUCTIONS)


def _load(base: Path, params: Params) -> PreTrainedModel:
    model = load_policy(base)
    return model.to("cuda") if params.train.backend == "gpu" else model


def _save(model: PreTrainedModel, base: Path, out: Path) -> None:
    """The weights anew, everything else as the base has it."""
    with atomic_folder(out) as part:
        model.save_pretrained(part)
        for file in base.iterdir():
            if file.is_file() and not file.name.endswith(WEIGHTS):
                shutil.copyfile(file, part / file.name)
