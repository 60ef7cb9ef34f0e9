"""The stage publish: put a release into the store, download it again, and let it answer a question."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stages.publish.answer import answer
from stages.publish.attestation import commit_from_environment
from stages.publish.endpoint import open_store
from stages.publish.fetch import fetch_release
from stages.publish.keys import manifest_key
from stages.publish.receipt import STAGE, Receipt, Smoke, write_receipt
from stages.publish.release import Release, assemble, publish
from stages.publish.signer import find_signer
from stages.publish.store import Store
from stages.shared.entry import run_stage
from stages.shared.errors import DataError, TransientError
from stages.shared.params import Params
from stages.shared.progress import Progress, say
from stages.shared.questions import Question, read_questions
from stages.shared.workspace import Workspace


def main(params: Params, workspace: Workspace) -> None:
    """Publish what the stages left; the receipt is written only for a release that was seen to work."""
    question = smoke_question(workspace)
    signer, commit = find_signer(params.publish, workspace.root), commit_from_environment()
    release = assemble(params, workspace)
    with open_store(params.publish, workspace.state, release.manifest.size, writing=True) as store:
        with Progress(STAGE, total=len(release.manifest.files), unit="files", root=workspace.root) as progress:
            is_new = publish(release, store, lambda name: progress.advance(1, note=name), signer, commit)
        word = "published" if is_new else "nothing new to store, it was published before"
        word += ", signed" if signer else f", unsigned (no ${params.publish.signing_key_env}, no publish.sigstore)"
        say(f"{STAGE}: release {release.manifest.digest[:16]}: {word}; {store.place}")
        smoke = prove(store, release, question, workspace)
    said = f"no answer ({smoke.ending})" if smoke.answer is None else smoke.answer
    say(f"{STAGE}: downloaded and verified; asked {smoke.question!r}, it says: {said}")
    write_receipt(
        Receipt(
            digest=release.manifest.digest,
            endpoint=params.publish.endpoint,
            bucket=params.publish.bucket,
            prefix=params.publish.prefix,
            key=manifest_key(release.manifest.digest),
            files={name: entry.sha256 for name, entry in release.manifest.files.items()},
            bytes=release.manifest.size,
            smoke=smoke,
            folder=params.publish.folder,
        ),
        workspace,
    )


def smoke_question(workspace: Workspace) -> Question:
    """The first single-hop validation question, or the first where all have more; test sets are evaluation's alone.

    Raises DataError when there is none.
    """
    path = workspace.artifacts("ingest") / "validation.parquet"
    questions = read_questions(path)
    if not questions:
        raise DataError(f"{path} holds no question to try the release with; run the ingest stage again")
    return next((each for each in questions if each.hops == 1), questions[0])


def prove(store: Store, release: Release, question: Question, workspace: Workspace) -> Smoke:
    """Download the release, verify it, and ask it one question.

    Raises IntegrityError for a release that does not come back as it went, TransientError when no candidate answered.
    """
    shutil.rmtree(workspace.runs(STAGE), ignore_errors=True)
    workspace.runs(STAGE).mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=workspace.runs(STAGE)) as parent:
        folder = Path(parent) / "release"
        fetch_release(store, release.manifest.digest, folder)
        episode = answer(question.question, folder, workspace)
    if episode.calls and all(call.reply.outcome.is_failure for call in episode.calls):
        failed = ", ".join(f"{call.name} {call.reply.outcome}" for call in episode.calls)
        raise TransientError(f"the release is stored, but no candidate answered its question ({failed}); run again")
    return Smoke(question.question, question.answers, episode.answer, episode.ending)


if __name__ == "__main__":
    raise SystemExit(run_stage(STAGE, main))
