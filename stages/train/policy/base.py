"""The policy to start from, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from stages.shared.params import HubPolicy, Policy, SmolPolicy, TinyPolicy


def base_policy(policy: Policy, run_folder: Path, seed: int, *, thrifty: bool = False) -> Path:
    """A folder with config.json, safetensors and tokenizer files of the policy before any training on episodes.

    Prepared once in the run folder, `run_folder`/base, and found there again; one from a hub stays in the hub's cache.
    `seed` is that of a policy that is pre-trained here, `thrifty` whether for a reward that counts cost.

    Raises ConfigurationError for a missing package, or a repository that does not exist or may not be read, and
    TransientError when a hub cannot be reached.
    """
    folder = run_folder / "base"
    match policy:
        case HubPolicy():
            from stages.train.policy.hub import fetch_policy

            return fetch_policy(policy)
        case SmolPolicy() if not folder.is_dir():
            from stages.train.policy.smollm2 import prepare_smollm2

            prepare_smollm2(folder)
        case TinyPolicy() if not folder.is_dir():
            from stages.train.tiny.prepare import prepare_tiny

            prepare_tiny(policy, seed, folder, thrifty=thrifty)
    return folder
