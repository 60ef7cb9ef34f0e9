"""`python -m stages.ingest`: question sets in, validated and leak-free splits out (`artifacts/ingest`)."""

from __future__ import annotations

from stages.ingest.expectations import check_tables
from stages.ingest.report import summarise
from stages.ingest.sources import open_source
from stages.ingest.splits import draw_splits
from stages.shared.artifacts import write_manifest
from stages.shared.entry import run_stage
from stages.shared.files import atomic_folder, write_json
from stages.shared.params import Params
from stages.shared.progress import say
from stages.shared.questions import write_questions
from stages.shared.workspace import Workspace


def main(params: Params, workspace: Workspace) -> None:
    """Draw the splits, hold them to their expectations, write them."""
    draw = draw_splits(open_source(params.ingest, params.world), params.ingest)
    checked = check_tables(dict(draw.splits))
    summary = summarise(params.ingest.source.kind, draw, checked)
    with atomic_folder(workspace.artifacts("ingest")) as folder:
        for split, questions in draw.splits.items():
            write_questions(folder / f"{split}.parquet", questions)
        write_manifest(folder, "pointsman/questions/1")
    write_json(workspace.metrics("ingest"), summary)
    counts = ", ".join(f"{len(questions)} {split}" for split, questions in draw.splits.items())
    say(f"ingest: {counts}; {draw.duplicates} copies and {draw.overlaps} overlaps with a test set left out")


if __name__ == "__main__":
    raise SystemExit(run_stage("ingest", main))
