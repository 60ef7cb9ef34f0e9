"""verl's plug-in point: imported by `import verl` in every process of a run (VERL_USE_EXTERNAL_MODULES)."""

from __future__ import annotations

import os
from typing import Any

from stages.shared.policy import load_tokenizer


def _read_tokenizers_our_way() -> None:
    """verl reads tokenizers by AutoTokenizer, which mis-tokenises a Qwen2-shaped folder with a tokenizer of its own."""
    import verl.utils as utils
    import verl.utils.tokenizer as package

    def tokenizer(folder: str, **_: Any) -> Any:
        """The folder's own tokenizer; verl's options change nothing here."""
        return load_tokenizer(folder)

    utils.hf_tokenizer = package.hf_tokenizer = tokenizer


def _leave_out_sklearn() -> None:
    """Loaded by transformers, and scipy with it, for assisted generation: a second in each of a run's processes."""
    import transformers.utils as utils

    utils.is_sklearn_available = utils.import_utils.is_sklearn_available = lambda: False


_leave_out_sklearn()
_read_tokenizers_our_way()
if os.environ.get("VERL_PLATFORM") == "cpu":
    from stages.train.ppo import platform

    platform.install()
else:
    from stages.train.ppo import critic

    critic.install()
