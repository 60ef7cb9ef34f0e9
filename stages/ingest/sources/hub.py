"""Questions from a Hugging Face data set repository in FlashRAG's layout, at a pinned commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stages.ingest.rows import read_file
from stages.shared.errors import ConfigurationError, IntegrityError, TransientError
from stages.shared.params import HubSource
from stages.shared.questions import Question, Split


class HubQuestions:
    """Downloads `<dataset>/<split>.jsonl` (rows of id, question, golden_answers) and keeps it in the library's cache.

    `HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN` are honoured as the library documents them.
    """

    def __init__(self, params: HubSource, cache: Path | None = None) -> None:
        self._params = params
        self._cache = cache

    @property
    def test_sets(self) -> Sequence[str]:
        """The data sets that `ingest.source.test_split` names."""
        return tuple(self._params.test_split)

    def questions(self, dataset: str, split: Split, wanted: int) -> list[Question]:
        """Everything in the split, in its order; see `QuestionSource`.

        Raises TransientError when the hub is out of reach.
        """
        key = "test_split" if split == "test" else "train_split"
        splits = {str(name): value for name, value in getattr(self._params, key).items()}
        if dataset not in splits:
            raise ConfigurationError(
                f"ingest.source.{key} names no split for {dataset}; add one, or take {dataset} out of train_on"
            )
        return read_file(self.download(f"{dataset}/{splits[dataset]}.jsonl"), dataset, split)

    def download(self, name: str) -> Path:
        """One file of the repository at the pinned commit, from the cache where it is there already."""
        from httpx import HTTPError
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

        repo, revision = self._params.repo, self._params.revision
        where = f"{repo}@{revision[:12]}, {name}"
        try:
            path = Path(
                hf_hub_download(
                    repo,
                    name,
                    repo_type="dataset",
                    revision=revision,
                    cache_dir=self._cache,
                    endpoint=os.environ.get("HF_ENDPOINT"),
                )
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError) as error:
            raise _refused(where, error) from error
        if revision not in path.parts:
            raise IntegrityError(f"{where}: the hub served another commit ({path.parts[-3]}); check HF_ENDPOINT")
        return path


def _refused(where: str, error: Exception) -> ConfigurationError | TransientError:
    """A client error is for the user to correct; everything else may pass."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    status = getattr(response, "status_code", None)
    if status is not None and 400 <= status < 500 and status != 429:
        return ConfigurationError(
            f"{where}: the hub answers {status}; check ingest.source repo, revision and splits (and HF_TOKEN)"
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TransientError(f"{where}: the hub is out of reach ({reason}); try again, or set ingest.source.kind to files")
