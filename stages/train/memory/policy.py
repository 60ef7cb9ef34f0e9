"""The configuration of the policy that the parameters name, without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.params import HubPolicy, Policy, SmolPolicy
from stages.shared.pool.packaged import SMOLLM2, packaged_gguf

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def policy_config(policy: Policy) -> PretrainedConfig:
    """What config.json says, or will say.

    Raises ConfigurationError for a missing package or a repository that may not be read, TransientError when a hub
    does not answer.
    """
    from transformers import AutoConfig

    if isinstance(policy, HubPolicy):
        return _from_hub(policy)
    if isinstance(policy, SmolPolicy):
        source = packaged_gguf(SMOLLM2)
        return AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    from stages.train.tiny.model import build_model
    from stages.train.tiny.tokenizer import build_tokenizer

    words = build_tokenizer()
    return build_model(policy, len(words), words.pad_token_id, words.eos_token_id, seed=0).config


def _from_hub(policy: HubPolicy) -> PretrainedConfig:
    """Fetches config.json, and nothing else; HF_ENDPOINT and HF_TOKEN are honoured."""
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from transformers import AutoConfig

    name = f"{policy.repo} at {policy.revision[:12]}"
    try:
        path = hf_hub_download(policy.repo, "config.json", revision=policy.revision)
    except HfHubHTTPError as error:
        raise ConfigurationError(
            f"train.policy: {name} may not be read ({_line(error)}); correct it, or set HF_TOKEN"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError) as error:
        raise TransientError(
            f"train.policy: {name} cannot be fetched ({_line(error)}); try again when the hub answers"
        ) from error
    return AutoConfig.from_pretrained(path)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
