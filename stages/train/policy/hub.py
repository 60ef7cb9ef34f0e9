"""A policy from a Hugging Face hub, at one commit, weights as safetensors only."""

from __future__ import annotations

from pathlib import Path

from stages.shared.errors import ConfigurationError, TransientError
from stages.shared.files import read_json
from stages.shared.params import HubPolicy
from stages.shared.progress import say

WANTED = [
    "config.json", "generation_config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template*",
]  # fmt: skip
"""Files to fetch: no pickles, and no code."""


def fetch_policy(policy: HubPolicy) -> Path:
    """The snapshot's folder in the hub's cache; files that are there already are not fetched again.

    The hub is the one that HF_ENDPOINT names, a token the one in HF_TOKEN. Raises ConfigurationError for what is not
    there or not allowed, TransientError when the hub does not answer.
    """
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    name = f"{policy.repo} at {policy.revision[:12]}"
    say(f"train: fetching {name}")
    try:
        folder = Path(snapshot_download(policy.repo, revision=policy.revision, allow_patterns=WANTED))
    except HFValidationError as error:
        raise ConfigurationError(
            f"train.policy.repo: {policy.repo!r} is no repository's name: {_first_line(error)}"
        ) from error
    except HfHubHTTPError as error:
        raise _refused(name, error.response.status_code if error.response is not None else None, error) from error
    except OfflineModeIsEnabled as error:
        raise ConfigurationError(f"train.policy: {name} is not in the hub's cache: {error}") from error
    except (LocalEntryNotFoundError, HTTPError) as error:
        raise TransientError(f"train.policy: {name} cannot be fetched: {_first_line(error)}; try again when the hub "
                             "answers (HF_ENDPOINT names another one)") from error  # fmt: skip
    _check(folder, name)
    return folder


def _refused(name: str, status: int | None, error: Exception) -> ConfigurationError | TransientError:
    if status in (401, 403):
        return ConfigurationError(
            f"train.policy: {name} may not be read; accept its licence on the hub and set HF_TOKEN"
        )
    if status is None or status >= 500 or status == 429:
        return TransientError(f"train.policy: the hub failed on {name}: {_first_line(error)}; try again later")
    return ConfigurationError(
        f"train.policy: {name} is not on the hub ({_first_line(error)}); correct repo and revision"
    )


def _check(folder: Path, name: str) -> None:
    missing = [
        what for what in ("config.json", "*.safetensors", "tokenizer_config.json") if not list(folder.glob(what))
    ]
    if missing:
        raise ConfigurationError(f"train.policy: {name} has no {', no '.join(missing)}; choose a repository that has "
                                 "weights as safetensors and a tokenizer")  # fmt: skip
    if not _has_chat_template(folder):
        raise ConfigurationError(
            f"train.policy: {name} has no chat template, so that nobody knows how a prompt is put to it; choose a "
            "model that was tuned on instructions"
        )


def _has_chat_template(folder: Path) -> bool:
    settings = read_json(folder / "tokenizer_config.json")
    return bool(settings.get("chat_template")) or any(folder.glob("chat_template*"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
