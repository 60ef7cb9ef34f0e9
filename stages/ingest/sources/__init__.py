"""Where questions come from. One file a source, all behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stages.shared.params import IngestParams, WorldParams
from stages.shared.questions import Question, Split


class QuestionSource(Protocol):
    """Offers questions by data set and split."""

    @property
    def test_sets(self) -> Sequence[str]:
        """The data sets that it has a test set of."""
        ...

    def questions(self, dataset: str, split: Split, wanted: int) -> list[Question]:
        """What the source offers for a split of a data set, in a fixed order, copies included.

        Everything it has, or at least `wanted` distinct questions where it could make any number. The same questions
        may be offered for `train`, `profiling` and `validation`: the draw keeps these apart.

        Raises DataError for content that cannot be used, ConfigurationError for a place that is not there.
        """
        ...


def open_source(params: IngestParams, world: WorldParams) -> QuestionSource:
    """The source that the parameters name."""
    source = params.source
    if source.kind == "sandbox":
        from stages.ingest.sources.sandbox import SandboxQuestions

        return SandboxQuestions(world, params.seed)
    if source.kind == "files":
        from stages.ingest.sources.files import FileQuestions

        return FileQuestions(source)
    from stages.ingest.sources.hub import HubQuestions

    return HubQuestions(source)
