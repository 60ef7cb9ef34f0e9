"""What one method did, a number a question: read back from the table of episodes, without its texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from stages.evaluate.attempt import PoolName, Result
from stages.evaluate.episodes import table
from stages.evaluate.statistics import Values
from stages.shared.errors import IntegrityError
from stages.shared.params import DATASETS
from stages.shared.questions import Question

Rows = np.ndarray
"""Which of a sheet's rows are meant: a mask, (questions,)."""
NUMBERS = (
    "em", "f1", "cost", "cost_total", "own_cost", "own_tokens", "own_read", "calls", "latency_s",
    "reply_em", "reply_f1", "reply_holds",
)  # fmt: skip
COLUMNS = [*NUMBERS, "dataset", "question_id", "topic", "hops", "called", "faults"]


@dataclass(frozen=True)
class Roll:
    """The test questions by their ids: what every method has to have answered, each once."""

    ids: Mapping[str, pa.StringArray]
    """Data set -> ids in order; no set without questions."""

    @classmethod
    def of(cls, questions: Iterable[Question]) -> Roll:
        """Of questions in any order of sets; they are met once, and none is kept."""
        found: dict[str, list[str]] = {name: [] for name in DATASETS}
        for question in questions:
            found[question.dataset].append(question.id)
        return cls({name: pa.array(ids, pa.string()) for name, ids in found.items() if ids})

    @property
    def sizes(self) -> dict[str, int]:
        """Questions of each set."""
        return {name: len(ids) for name, ids in self.ids.items()}


@dataclass(frozen=True)
class Sheet:
    """One method: set after set, each in the order of the test questions."""

    rows: pa.Table
    """With `COLUMNS`."""
    sizes: Mapping[str, int]

    def __len__(self) -> int:
        """Questions."""
        return int(self.rows.num_rows)

    def numbers(self, field: str) -> np.ndarray:
        """One of `NUMBERS`, (questions,); no number where it is null."""
        values: np.ndarray = self.rows[field].to_numpy().astype(float)
        return values

    def values(self, field: str) -> Values:
        """The same by set."""
        return self.split(self.numbers(field))

    def split(self, numbers: np.ndarray) -> Values:
        """Any (questions,) by set."""
        ends = np.cumsum([*self.sizes.values()])[:-1]
        return dict(zip(self.sizes, np.split(numbers, ends), strict=True))

    def groups(self, field: str) -> Iterator[tuple[Any, Rows]]:
        """Each value of `dataset`, `topic` or `hops` with its rows, in the order in which the values are met first."""
        encoded = self.rows[field].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        for code, value in enumerate(encoded.dictionary.to_pylist()):
            yield value, codes == code

    def ids(self, places: Sequence[int]) -> list[str]:
        """Of the questions at some places."""
        found: list[str] = self.rows["question_id"].take(pa.array(places, pa.int64())).to_pylist()
        return found

    @property
    def faulty(self) -> np.ndarray:
        """Which episodes are not well-formed, (questions,)."""
        found: np.ndarray = pc.list_value_length(self.rows["faults"]).to_numpy() > 0
        return found

    def called(self, rows: Rows | None = None) -> dict[str, int]:
        """Candidate -> its calls, over all questions or some of them."""
        lists = self.rows["called"] if rows is None else self.rows["called"].filter(pa.array(rows))
        counts = pc.value_counts(pc.list_flatten(lists))
        return {item["values"].as_py(): item["counts"].as_py() for item in counts}


class Measured:
    """All that was played with one pool. Nothing is held of it: a method is read when it is asked for."""

    def __init__(self, episodes: pa.dataset.Dataset, roll: Roll, pool: PoolName) -> None:
        self._episodes, self._roll, self.pool = episodes, roll, pool
        self.methods = _in_order(episodes, pool)

    @classmethod
    def of(cls, results: Sequence[Result], questions: Iterable[Question], pool: PoolName) -> Measured:
        """Of results that are still in memory."""
        return cls(pa.dataset.dataset(table(results)), Roll.of(questions), pool)

    def beside(self, pool: PoolName) -> Measured:
        """What was played with another pool."""
        return Measured(self._episodes, self._roll, pool)

    @property
    def sizes(self) -> dict[str, int]:
        """Questions of each set."""
        return self._roll.sizes

    @property
    def n(self) -> int:
        """Questions of all sets."""
        return sum(self.sizes.values())

    def sheet(self, method: str) -> Sheet:
        """What a method did. Raises IntegrityError when it misses a question or has it twice."""
        found = self._episodes.to_table(COLUMNS, filter=self._mine(method), use_threads=False)
        sets = [self._ordered(method, name, found.filter(pc.equal(found["dataset"], name))) for name in self.sizes]
        return Sheet(pa.concat_tables(sets).combine_chunks(), self.sizes)

    def values(self, method: str, field: str) -> Values:
        """One number a question, by set; raises as `sheet`."""
        return self.sheet(method).values(field)

    def whole(self, method: str, ids: Collection[str]) -> list[dict[str, Any]]:
        """Rows of a method, texts and all, of the questions with these ids."""
        mine = self._mine(method) & pc.field("question_id").isin(list(ids))
        found: list[dict[str, Any]] = self._episodes.to_table(filter=mine, use_threads=False).to_pylist()
        return found

    def _mine(self, method: str) -> pc.Expression:
        return (pc.field("method") == method) & (pc.field("pool") == self.pool)

    def _ordered(self, method: str, dataset: str, rows: pa.Table) -> pa.Table:
        ids = self._roll.ids[dataset]
        places = pc.index_in(rows["question_id"], value_set=ids)
        known = np.bincount(places.drop_null().to_numpy(), minlength=len(ids))
        if places.null_count or len(places) != len(ids) or not known.all():
            missing = ", ".join(sorted(ids.filter(pa.array(known == 0)).to_pylist())[:3]) or "none"
            raise IntegrityError(
                f"{method} has {len(places)} results for the {len(ids)} {dataset} questions (missing: {missing}); "
                "metrics need every question exactly once, so nothing is written: run the evaluate stage again"
            )
        return rows.take(np.argsort(places.to_numpy()))


def _in_order(episodes: pa.dataset.Dataset, pool: PoolName) -> tuple[str, ...]:
    """The methods that played with a pool, as they are met."""
    found: dict[str, None] = {}
    for batch in episodes.to_batches(["method"], filter=pc.field("pool") == pool, use_threads=False):
        found |= dict.fromkeys(batch["method"].unique().to_pylist())
    return tuple(found)
