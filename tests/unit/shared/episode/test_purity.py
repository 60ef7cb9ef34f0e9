"""The episode knows nothing of trainers: it imports none of their libraries."""

from __future__ import annotations

import subprocess
import sys

MODULES = ["driver", "prompt", "reward", "roster", "protocol", "normaliser"]


def test_the_episode_imports_no_trainer_and_no_model_library() -> None:
    lines = [f"import stages.shared.episode.{name}" for name in MODULES]
    lines += ["import stages.shared.scoring, stages.shared.pool.candidate, sys"]
    lines += ["print({'torch', 'verl', 'transformers', 'aiohttp', 'ray'} & set(sys.modules))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
