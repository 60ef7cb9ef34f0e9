"""What the driver of a run knows beyond verl's checkpoint: the manager's state and the driver's random states."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.shared.files import read_json, write_json

STATE = "driver.json"


def write_state(folder: Path, manager: dict[str, Any]) -> None:
    """Put the driver's state beside the weights."""
    kind, keys, *rest = np.random.get_state()
    write_json(folder / STATE, {
        "manager": manager,
        "python": random.getstate(),
        "numpy": [kind, [int(key) for key in keys], *rest],
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
    })  # fmt: skip


def read_state(folder: Path) -> dict[str, Any]:
    """Take up the random states, and return what the manager said."""
    state = read_json(folder / STATE)
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(list(bytes.fromhex(state["torch"])), dtype=torch.uint8))
    manager: dict[str, Any] = state["manager"]
    return manager
