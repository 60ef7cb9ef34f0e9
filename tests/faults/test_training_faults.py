"""What stops a training run, told so that a person can act, with the last good checkpoint untouched."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages.shared.errors import BudgetError, PipelineError
from stages.shared.params import EpisodeParams, PoolLimits, RewardParams
from stages.shared.pool.ledger import Place
from stages.train.ppo.job import VARIABLE, Job
from stages.train.ppo.resume import seal, whole_steps
from stages.train.ppo.run import _failure


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The driver of a run at step 4, with a checkpoint of step 2; verl itself is not started."""
    from stages.train.ppo.trainer import Trainer

    job = Job(
        policy=tmp_path, notes=tmp_path, candidates=(), descriptors=(), limits=PoolLimits(),
        ledger=Place(tmp_path, "train", "s"), episode=EpisodeParams(), reward=RewardParams(), seed=0,
    )  # fmt: skip
    monkeypatch.setenv(VARIABLE, str(job.save(tmp_path / "job.json")))
    earlier = tmp_path / "checkpoints" / "global_step_2"
    earlier.mkdir(parents=True)
    (earlier / "model.pt").write_bytes(b"good")
    seal(earlier)
    made = object.__new__(Trainer)
    made.config = SimpleNamespace(
        trainer=SimpleNamespace(default_local_dir=str(tmp_path / "checkpoints")),
        algorithm=SimpleNamespace(rollout_correction=SimpleNamespace(bypass_mode=True)),
    )
    made.global_steps = 4
    made.async_rollout_manager = SimpleNamespace(state=lambda: {"train": [], "validation": []})
    return made


def saving(monkeypatch: pytest.MonkeyPatch, folder: Path, target: str | None) -> None:
    """verl's part of saving: weights by torch.save, into a file or onto a disk without a free byte."""
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    def save(_: Any) -> None:
        folder.mkdir(parents=True)
        if target is not None:
            (folder / "model.pt").symlink_to(target)
        torch.save({"weights": torch.zeros(1000)}, folder / "model.pt")

    monkeypatch.setattr(RayPPOTrainer, "_save_checkpoint", save)


def test_a_saved_checkpoint_is_whole_and_holds_the_drivers_state(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving(monkeypatch, tmp_path / "checkpoints" / "global_step_4", None)
    trainer._save_checkpoint()
    assert whole_steps(tmp_path / "checkpoints") == [2, 4]
    assert (tmp_path / "checkpoints" / "global_step_4" / "driver.json").is_file()


def test_a_full_disk_while_saving_is_told_and_tears_nothing(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints" / "global_step_4"
    saving(monkeypatch, folder, "/dev/full")
    with pytest.raises(BudgetError, match=r"no disk space left: the checkpoint of step 4 .* Free some and run again"):
        trainer._save_checkpoint()
    assert not folder.exists()
    assert whole_steps(tmp_path / "checkpoints") == [2]


@pytest.mark.parametrize("name", ["actor/pg_loss", "critic/vf_loss", "actor/grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_batch(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    output = SimpleNamespace(meta_info={"metrics": {name: [0.5, value], "actor/lr": 1e-6}})
    batch = SimpleNamespace(non_tensor_batch={"extra_info": [{"index": 17}, {"index": 16}, {"index": 17}]})
    for part in ("actor", "critic"):
        monkeypatch.setattr(RayPPOTrainer, f"_update_{part}", lambda *_: output)
        with pytest.raises(PipelineError, match=rf"step 4: {name} is {value} in forward pass 2 of 2, on rows 16 to 17"):
            getattr(trainer, f"_update_{part}")(batch)
    assert json.loads((tmp_path / "broken-step-4.json").read_text())["rows"] == [16, 17]
    assert whole_steps(tmp_path / "checkpoints") == [2]


def test_finite_losses_pass_whatever_shape_verl_gives_them(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer
    from verl.utils.metric import Metric

    loss = Metric("mean", 0.5)
    loss.append(0.25)
    metrics = {"actor/pg_loss": loss, "actor/grad_norm": 0.5, "actor/mfu": math.nan}
    output = SimpleNamespace(meta_info={"metrics": metrics})
    monkeypatch.setattr(RayPPOTrainer, "_update_actor", lambda *_: output)
    assert trainer._update_actor(SimpleNamespace(non_tensor_batch={})) is output


def test_the_stage_tells_it_in_the_same_words(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("stages.shared.errors.BudgetError: no disk space left: the checkpoint of step 4 is not written\n")
    told = _failure(log, 0, 1)
    assert isinstance(told, BudgetError)
    assert "step 4" in str(told)
