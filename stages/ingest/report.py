"""What the ingest stage did, as its metrics file says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stages.ingest.expectations import Checked
from stages.ingest.splits import Draw


def summarise(source: str, draw: Draw, checked: Sequence[Checked]) -> dict[str, Any]:
    """`metrics/ingest.json`: questions by split and set, what was left out, expectations met."""
    return {
        "source": source,
        "questions": {
            split: dict(sorted(Counter(question.dataset for question in questions).items()))
            for split, questions in draw.splits.items()
        },
        "hops": {
            split: {str(hops): n for hops, n in sorted(Counter(question.hops for question in questions).items())}
            for split, questions in draw.splits.items()
        },
        "duplicates_removed": draw.duplicates,
        "test_overlaps_removed": draw.overlaps,
        "expectations_met": sum(table.expectations for table in checked),
    }
