"""Train the router: a base policy, a warm start on demonstrated episodes, then PPO; each goes on where it was left."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from stages.shared.artifacts import write_manifest
from stages.shared.entry import run_stage
from stages.shared.files import atomic_folder, write_json
from stages.shared.params import Params
from stages.shared.progress import say
from stages.shared.workspace import Workspace

SCHEMA = "pointsman/train/1"


def main(params: Params, workspace: Workspace) -> None:
    """Write artifacts/train and metrics/train.json."""
    from stages.train.memory.room import announce
    from stages.train.recipe import Recipe

    recipe = Recipe(params, workspace)
    announce(params)
    clock = [time.monotonic()]
    say("train: the base policy")
    base = recipe.base()
    clock.append(time.monotonic())
    say("train: the warm start")
    warm = recipe.warm_start(base)
    clock.append(time.monotonic())
    say(f"train: PPO, {params.train.ppo.steps} steps")
    folder, step = recipe.ppo(warm)
    if not step:
        say("train: no step of PPO validated as well as the warm start, which is kept; see artifacts/train/curves.csv")
    clock.append(time.monotonic())
    spans = [end - begin for begin, end in itertools.pairwise(clock)]
    seconds = dict(zip(("base", "warm_start", "ppo"), spans, strict=True))
    write_artifacts(workspace, folder, step, warm)
    write_metrics(workspace, folder, step, params.train.ppo.steps, seconds)
    say(f"train: the policy of step {step} is in {workspace.artifacts('train') / 'policy'}")


def write_artifacts(workspace: Workspace, folder: Path, step: int, warm: Path) -> None:
    """The selected policy, the policy before PPO, the curves and some episodes."""
    from stages.train.ppo.checkpoint import export
    from stages.train.ppo.curves import write_curves
    from stages.train.ppo.episodes import read_episodes, write_episodes
    from stages.train.ppo.record import read_records

    with atomic_folder(workspace.artifacts("train")) as part:
        if step:
            export(folder / "checkpoints", step, warm, part / "policy")
        else:
            shutil.copytree(warm, part / "policy")
        shutil.copytree(warm, part / "warm_start")
        records = read_records(folder)
        write_curves(part / "curves.csv", records, folder)
        for phase in ("train", "validation"):
            own = [record for record in records if record.phase == phase]
            write_curves(part / "curves" / f"{phase}.csv", own, folder)
        write_episodes(part, read_episodes(folder))
        write_manifest(part, SCHEMA)


def write_metrics(workspace: Workspace, folder: Path, step: int, steps: int, seconds: Mapping[str, float]) -> None:
    """metrics/train.json; the seconds are those of this attempt."""
    from stages.train.ppo.curves import train_metrics
    from stages.train.ppo.record import LOST, read_lines, read_records

    lost = read_lines(folder / LOST)
    write_json(workspace.metrics("train"), train_metrics(read_records(folder), step, steps, seconds, lost))


if __name__ == "__main__":
    raise SystemExit(run_stage("train", main))
