"""Smoke questions: a release is asked, with its own candidates, what its channel insists that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.publish.evidence import Check
from stages.publish.fetch import fetch_release, holds
from stages.publish.gates import SmokeQuestion
from stages.publish.store import Store
from stages.shared.errors import BudgetError, ConfigurationError, TransientError
from stages.shared.workspace import Workspace

if TYPE_CHECKING:
    from stages.shared.episode.types import Episode

NOT_ASKED = "not asked, since the release fails a gate above"


def smoke_checks(
    questions: Sequence[SmokeQuestion], store: Store, digest: str, root: Path, *, passes: bool
) -> tuple[Check, ...]:
    """What a release answers, a check a question. Where it does not pass the other gates, it is not asked.

    Where nobody can be asked (keys, candidates, parameters of another version), every check fails and says why. Raises
    IntegrityError for a release that does not come back from the store as it went.
    """
    if not questions:
        return ()
    if not passes:
        return tuple(_check(each, NOT_ASKED) for each in questions)
    try:
        episodes = _ask([each.question for each in questions], store, digest, Workspace(root))
    except (BudgetError, ConfigurationError, TransientError) as error:
        return tuple(_check(each, f"could not be asked: {error}") for each in questions)
    return tuple(_judge(each, episode) for each, episode in zip(questions, episodes, strict=True))


def _ask(questions: Sequence[str], store: Store, digest: str, workspace: Workspace) -> list[Episode]:
    from stages.publish.answer import answer_all

    folder = workspace.state / "releases" / digest
    if not holds(folder, digest):
        fetch_release(store, digest, folder)
    return answer_all(questions, folder, workspace)


def _judge(asked: SmokeQuestion, episode: Episode) -> Check:
    from stages.shared.episode.protocol import neutralise
    from stages.shared.scoring import exact_match

    if episode.answer is None:
        failed = [f", {call.name} {call.reply.outcome}" for call in episode.calls if call.reply.outcome.is_failure]
        return _check(asked, f"no answer ({episode.ending}{''.join(failed)})")
    return _check(asked, neutralise(episode.answer), passed=exact_match(episode.answer, asked.answers) == 1.0)


def _check(asked: SmokeQuestion, found: str, *, passed: bool = False) -> Check:
    return Check(gate=f"asked: {asked.question}", wanted=" or ".join(asked.answers), found=found, passed=passed)
