"""Passages to search, ranked by BM25 (Robertson and Zaragoza, 2009), as the library bm25s computes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stages.shared.errors import ConfigurationError, DataError
from stages.shared.files import read_text
from stages.shared.params import WorldParams
from stages.shared.sandbox.lexicon import RELATIONS
from stages.shared.sandbox.world import World, spellings

LARGEST = 1 << 30
"""Bytes of a file of passages."""
FIELDS = ("text", "contents")


class Corpus:
    """Passages with an index of their words."""

    def __init__(self, passages: Sequence[str]) -> None:
        import bm25s

        self._bm25s, self._passages = bm25s, list(passages)
        self._index = bm25s.BM25()
        self._index.index(self._words(self._passages), show_progress=False)

    def search(self, query: str, count: int) -> list[str]:
        """At most so many passages that share a word with the query, the best first."""
        found, scores = self._index.retrieve(
            self._words([query]), k=min(count, len(self._passages)), show_progress=False
        )
        return [self._passages[place] for place, score in zip(found[0], scores[0], strict=True) if score > 0]

    def _words(self, texts: list[str]) -> Any:
        return self._bm25s.tokenize(texts, stopwords="en", show_progress=False)


def load_corpus(folder: str | None, world: WorldParams | None) -> Corpus:
    """The passages of a folder, or, where none is named, the facts of the sandbox's world.

    Raises ConfigurationError where there is neither, and DataError for a folder that cannot be read.
    """
    if folder is not None:
        return Corpus(read_passages(Path(folder)))
    if world is None:
        raise ConfigurationError("there is nothing to search: name a folder of passages as evaluate.corpus")
    return Corpus(list(facts(World.generate(world))))


def read_passages(folder: Path) -> list[str]:
    """Every .jsonl (`text` or `contents`, and `title` before it where it has one) and .txt (one a line), by name.

    Raises DataError naming the file and line that cannot be used, or a folder without passages.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".jsonl", ".txt"))
    found = [passage for path in paths for passage in _of_file(path)]
    if not found:
        raise DataError(f"{folder}: no passages; it wants .jsonl files with `text` or `contents`, or .txt, one a line")
    return found


def facts(world: World) -> Iterator[str]:
    """Every fact as a sentence, in each of its wordings and by each name of what it is about."""
    for relation in RELATIONS:
        for entity in world.entities(relation.domain):
            value = spellings(world.fact(relation.name, entity))[0]
            for wording in relation.phrasings:
                yield from (f"the {wording} of {name} is {value}" for name in entity.names)


def _of_file(path: Path) -> Iterator[str]:
    for number, line in enumerate(read_text(path, LARGEST).splitlines(), 1):
        if line.strip():
            yield line.strip() if path.suffix == ".txt" else _of_record(path, number, line)


def _of_record(path: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
        text = next(record[field] for field in FIELDS if isinstance(record.get(field), str))
    except (ValueError, AttributeError, StopIteration) as error:
        raise DataError(f"{path}, line {number}: no JSON object with `text` or `contents`") from error
    title = record.get("title")
    return f"{title}: {text}" if isinstance(title, str) and title else str(text)
