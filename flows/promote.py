"""The flows `promote` and `rollback`: evidence, a person's approval, then the move.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from prefect import flow, get_run_logger, pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput
from pydantic import Field

from flows import dvc, journal
from flows.log import begin_run
from flows.manage import manage

WAIT_SECONDS = 7 * 24 * 3600
POLL_SECONDS = 2
Text = Annotated[str, Field(pattern=r"\S")]
"""More than blanks. A pattern is part of the form, so that the server refuses what lacks it, and the run waits on."""
Form = TypeVar("Form", bound="Answer")


class Answer(RunInput):
    """A person's answer, as a form of Prefect's UI asks for it."""

    approve: bool = Field(title="Approve", description="No ends the run and changes nothing.")
    by: Text = Field(title="Your name", description="Kept in the history of the channel.")
    reason: Text = Field(title="Reason", description="Kept in the history of the channel.")


class Approval(Answer):
    """An answer on a release that may fail a gate."""

    override: str = Field(
        default="",
        title="Override",
        description="Only where a gate fails: why to promote all the same. Kept in the history of the channel.",
    )


@flow(name="promote", flow_run_name="{release} to {channel}", validate_parameters=True)
def promote(release: str = "latest", channel: str = "production") -> dict[str, Any]:
    """Show how a release does at a channel's gates, wait for approval, and let the channel serve it.

    What was approved is what is promoted: where the channel was moved meanwhile, the run fails and changes nothing.

    Args:
        release: A digest, its first digits, `latest`, or the channel that serves it.
        channel: The channel that shall serve it.

    """
    begin_run()
    root = dvc.find_root(Path.cwd())
    found = manage(root, "promote", release, "--to", channel, "--dry-run", may_fail=True)
    create_markdown_artifact(evidence_table(found), key="promotion", description=f"{release} to {channel}")
    answer = _ask(Approval, evidence_list(found))
    if not answer.approve:
        return _declined(answer)
    return _noted(root, manage(root, "promote", found["digest"], *options(found, answer), by=answer.by))


@flow(name="rollback", flow_run_name="{channel}", validate_parameters=True)
def rollback(channel: str = "production") -> dict[str, Any]:
    """Wait for approval, and take the newest promotion of a channel back.

    Where there is nothing to go back to, nobody is asked.
    """
    begin_run()
    root = dvc.find_root(Path.cwd())
    found = manage(root, "rollback", channel, "--dry-run")
    answer = _ask(Answer, way_back(found))
    if not answer.approve:
        return _declined(answer)
    decided = [f"--reason={answer.reason}", f"--expect={found['event']['sequence']}"]
    return _noted(root, manage(root, "rollback", channel, *decided, by=answer.by))


def options(found: Mapping[str, Any], answer: Approval) -> list[str]:
    """How what was approved is asked for. An override is of the gates that the approver saw fail, and of no others."""
    decided = [f"--to={found['channel']}", f"--expect={found['sequence']}", f"--reason={answer.reason}"]
    overrides = answer.override.strip() and not found["passed"]
    return [*decided, f"--override={answer.override}"] if overrides else decided


def way_back(found: Mapping[str, Any]) -> str:
    """What a rollback would do, in Markdown: from which release to which."""
    event = found["event"]
    why = _cell(event["reason"]) or "no reason given"
    if event["override"]:
        why += f" (override: {_cell(event['override'])})"
    return (
        f"### {found['channel']}: back to {found['digest'][:16]}\n\n"
        f"It serves `{event['digest'][:16]}` since {event['time']}, by {_cell(event['actor'])}: {why}. "
        f"Approved, it serves `{found['digest'][:16]}` again."
    )


def evidence_table(found: Mapping[str, Any]) -> str:
    """What the gates found, in Markdown. The verdict stands first: Prefect's page cuts off what is wide."""
    lines = [f"# {_title(found)}", "", *_standing(found)]
    if found["evidence"]:
        lines += ["| | gate | wanted | found |", "|---|---|---|---|"]
    for check in _failing_first(found):
        cells = (_cell(check[name]) for name in ("gate", "wanted", "found"))
        lines.append(f"| {_verdict(check)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def evidence_list(found: Mapping[str, Any]) -> str:
    """The same for the narrow form that asks for an approval, under a smaller heading."""
    lines = [f"### {_title(found)}", "", *_standing(found)]
    for check in _failing_first(found):
        gate, wanted, what = (_cell(check[name]) for name in ("gate", "wanted", "found"))
        lines.append(f"- {_verdict(check)}: {gate}: {what} (wanted: {wanted})")
    return "\n".join(lines)


def _title(found: Mapping[str, Any]) -> str:
    verdict = "passes every gate" if found["passed"] else "**fails**, and needs an override"
    return f"{found['digest'][:16]} for {found['channel']}: {verdict}"


def _standing(found: Mapping[str, Any]) -> list[str]:
    lines = [f"The channel serves `{found['serves'][:16]}` now." if found["serves"] else "Nothing is served yet.", ""]
    lines += [found["note"], ""] if found["note"] else []
    return lines if found["evidence"] else [*lines, "The channel asks for nothing (infra/gates.yaml)."]


def _verdict(check: Mapping[str, Any]) -> str:
    return "passes" if check["passed"] else "**fails**"


def _failing_first(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(found["evidence"], key=lambda check: bool(check["passed"]))


def _cell(text: str) -> str:
    """Text that stays in its cell, and is text there: a release's own answers are among it."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", plain)


def _ask(form: type[Form], text: str) -> Form:
    answer = pause_flow_run(
        wait_for_input=form.with_initial_data(description=text), timeout=WAIT_SECONDS, poll_interval=POLL_SECONDS
    )
    assert answer is not None
    return answer


def _noted(root: Path, moved: dict[str, Any]) -> dict[str, Any]:
    journal.note(root, moved["store"], moved["event"], get_run_logger().warning)
    return moved


def _declined(answer: Answer) -> dict[str, Any]:
    get_run_logger().info("declined by %s: %s", answer.by, answer.reason)
    return {"changed": False, "declined_by": answer.by, "reason": answer.reason}
