"""Whether the questions that the parameters name are there: `python -m stages.ingest.check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.shared.finding import Finding, run_check
from stages.shared.params import FilesSource, HubSource, Params

PATIENCE_S = 10.0


def questions(params: Params) -> Sequence[Finding]:
    """A finding for the source as a whole: every file of it, or the first that is missing."""
    source = params.ingest.source
    if isinstance(source, FilesSource):
        return [_files(source)]
    if isinstance(source, HubSource):
        return [_hub(source)]
    return [Finding("questions", "good", "generated here")]


def _files(source: FilesSource) -> Finding:
    folder = Path(source.folder).expanduser()
    if not folder.is_dir():
        return Finding("questions", "wrong", f"no folder {folder}", "correct ingest.source.folder")
    names = sorted({*source.train.values(), *source.test.values()})
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return Finding("questions", "wrong", f"{len(missing)} of {len(names)} files are not in {folder}: {missing[0]}",
                       "put them there, or correct ingest.source")  # fmt: skip
    size = sum((folder / name).stat().st_size for name in names)
    return Finding("questions", "good", f"{len(names)} files in {folder}, {size / 1e6:.1f} MB")


def _hub(source: HubSource) -> Finding:
    """Asks the hub about each file that is not in its cache; downloads nothing."""
    from httpx import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    names = sorted({f"{name}/{split}.jsonl" for splits in (source.train_split, source.test_split)
                    for name, split in splits.items()})  # fmt: skip
    kept = {"repo_type": "dataset", "revision": source.revision}
    wanted = [name for name in names if not isinstance(try_to_load_from_cache(source.repo, name, **kept), str)]
    for name in wanted:
        try:
            get_hf_file_metadata(hf_hub_url(source.repo, name, **kept), timeout=PATIENCE_S)
        except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            todo = "see that the hub (HF_ENDPOINT) is reachable, or set ingest.source.kind to files"
            return Finding("questions", "wrong", f"{source.repo}, {name}: {said}", todo)
    return Finding("questions", "good", f"{source.repo}: {len(names)} files, {len(names) - len(wanted)} here already")


if __name__ == "__main__":
    raise SystemExit(run_check("ingest", questions))
