"""Questions from files in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.ingest.rows import read_file
from stages.shared.errors import ConfigurationError
from stages.shared.params import FilesSource
from stages.shared.questions import Question, Split


class FileQuestions:
    """Reads each data set from its file: one for training, profiling and validation, one for the test."""

    def __init__(self, params: FilesSource) -> None:
        self._params = params
        self._folder = Path(params.folder).expanduser()
        if not self._folder.is_dir():
            raise ConfigurationError(f"{self._folder}: no such folder; correct ingest.source.folder in params.yaml")

    @property
    def test_sets(self) -> Sequence[str]:
        """The data sets that `ingest.source.test` names."""
        return tuple(self._params.test)

    def questions(self, dataset: str, split: Split, wanted: int) -> list[Question]:
        """Everything in the file, in its order; see `QuestionSource`."""
        key = "test" if split == "test" else "train"
        files = {str(name): path for name, path in getattr(self._params, key).items()}
        if dataset not in files:
            raise ConfigurationError(
                f"ingest.source.{key} names no file for {dataset}; add one, or take {dataset} out of train_on"
            )
        return read_file(self._folder / files[dataset], dataset, split)
