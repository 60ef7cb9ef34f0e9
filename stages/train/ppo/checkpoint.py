"""From verl's checkpoints to a policy: which step, and its weights in full precision."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.shared.errors import IntegrityError
from stages.shared.files import read_json
from stages.shared.policy import load_policy
from stages.train.ppo.record import StepRecord
from stages.train.ppo.resume import STEP, best_validated, whole_steps

if TYPE_CHECKING:
    import torch

NOT_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin")
PEFT, ADAPTED = "base_model.model.", ".base_layer.weight"
"""What peft puts before every name, and in place of `.weight` where a weight is adapted."""


def best_step(records: Sequence[StepRecord], checkpoints: Path) -> int:
    """The step that validated best, of those whose checkpoint verifies; the last where none was validated.

    0, the warm start, where none of them validated as well. Raises IntegrityError when no checkpoint is there.
    """
    whole = whole_steps(checkpoints)
    if not whole:
        raise IntegrityError(f"{checkpoints}: no checkpoint to take a policy from; remove the folder and train again")
    best = best_validated(records, whole)
    return whole[-1] if best is None else best_validated(records, [0, best]) or 0


def export(checkpoints: Path, step: int, policy: Path, out: Path) -> None:
    """Write the actor of a step as a Hugging Face folder into `out`: fp32 safetensors, all else as in `policy`.

    verl's own merger rounds to bf16, which a policy that was trained in fp32 would notice. Raises IntegrityError.
    """
    weights = merged(checkpoints / f"{STEP}{step}" / "actor")
    model = load_policy(policy)
    missing, unexpected = model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    lacking = [name for name in missing if not (name.startswith("lm_head") and model.config.tie_word_embeddings)]
    if lacking or unexpected:
        raise IntegrityError(f"checkpoint {step} does not fit the policy: {', '.join([*lacking, *unexpected][:5])}")
    model.save_pretrained(out)
    for file in policy.iterdir():
        if file.is_file() and not file.name.endswith(NOT_WEIGHTS) and not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)


def merged(folder: Path) -> dict[str, torch.Tensor]:
    """Whole weights from the shards of every rank, adapters folded in. Raises IntegrityError when a rank is missing."""
    import torch
    import torch.distributed.tensor

    files = {}
    for path in folder.glob("model_world_size_*_rank_*.pt"):
        match = re.fullmatch(r"model_world_size_(\d+)_rank_(\d+)\.pt", path.name)
        if match:
            files[int(match[2])] = (int(match[1]), path)
    if not files or sorted(files) != list(range(files[next(iter(files))][0])):
        raise IntegrityError(f"{folder}: the files of ranks {sorted(files)} are not a whole checkpoint; train again")
    shards = [torch.load(files[rank][1], map_location="cpu", weights_only=True) for rank in sorted(files)]
    weights = {name: _join([shard[name] for shard in shards]) for name in shards[0]}
    return folded(weights, folder) if any(ADAPTED in name for name in weights) else weights


def folded(weights: Mapping[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """A model adapted by LoRA as one without: W + B A alpha / r (Hu et al. 2021, section 4.1), in fp32."""
    meta = read_json(folder / "lora_train_meta.json")
    found = {}
    for name, value in weights.items():
        layer = name.removesuffix(ADAPTED)
        if ".lora_" in name:
            continue
        if layer == name:
            found[name.removeprefix(PEFT).replace(".base_layer.", ".")] = value
            continue
        down, up = (weights[f"{layer}.lora_{part}.default.weight"].float() for part in "AB")
        found[f"{layer.removeprefix(PEFT)}.weight"] = value.float() + meta["lora_alpha"] / meta["r"] * (up @ down)
    return found


def _join(parts: Sequence[Any]) -> torch.Tensor:
    """One tensor of its shards: FSDP2 cuts along one dimension, over one mesh dimension; a bare tensor is whole."""
    import torch
    from torch.distributed.tensor import DTensor, Shard

    first = parts[0]
    if not isinstance(first, DTensor):
        return first
    placement = first.placements[-1]
    if not isinstance(placement, Shard):
        return first.to_local()
    return torch.cat([part.to_local() for part in parts], dim=placement.dim)
