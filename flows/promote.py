"""The flows `promote` and `rollback`: evidence, a person's approval, then the move.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput
from pydantic import Field, field_validator

from flows import dvc
from flows.log import hide_stacks
from stages.shared.entry import Workspace
from stages.shared.errors import PipelineError

MODULE = "stages.publish.manage"
WAIT_SECONDS = 7 * 24 * 3600
POLL_SECONDS = 2
Text = Annotated[str, Field(min_length=1)]


class Approval(RunInput):
    """A person's answer."""

    approve: bool
    by: Text
    """Who answers; kept in the history of the channel."""
    reason: Text
    override: str | None = None
    """Why to promote though a gate fails."""

    @field_validator("by", "reason", "override")
    @classmethod
    def _says_something(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("say something; it is kept in the history of the channel")
        return value


@flow(name="promote", flow_run_name="{release} to {channel}", validate_parameters=True)
def promote(release: str = "latest", channel: str = "production") -> dict[str, Any]:
    """Show how a release does at a channel's gates, wait for approval, and let the channel serve it.

    What was approved is what is promoted: where the channel was moved meanwhile, the run fails and changes nothing.

    Args:
        release: A digest, its first digits, `latest`, or the channel that serves it.
        channel: The channel that shall serve it.

    """
    hide_stacks()
    root = dvc.find_root(Path.cwd())
    found = _manage(root, "promote", release, "--to", channel, "--dry-run", may_fail=True)
    create_markdown_artifact(evidence_table(found), key="promotion", description=f"{release} to {channel}")
    answer = _ask(evidence_table(found))
    if not answer.approve:
        return _declined(answer)
    options = ["--expect", str(found["sequence"]), *(["--override", answer.override] if answer.override else [])]
    options += ["--to", channel, "--reason", answer.reason]
    moved: dict[str, Any] = _manage(root, "promote", found["digest"], *options, by=answer.by)
    return moved


@flow(name="rollback", flow_run_name="{channel}", validate_parameters=True)
def rollback(channel: str = "production") -> dict[str, Any]:
    """Wait for approval, and take the newest promotion of a channel back."""
    hide_stacks()
    root = dvc.find_root(Path.cwd())
    newest = _manage(root, "history", channel)[0]
    served = f"`{newest['digest'][:16]}` since {newest['time']}, by {newest['actor']}: {newest['reason']}"
    answer = _ask(f"`{channel}` serves {served}. Take that back?")
    if not answer.approve:
        return _declined(answer)
    options = ["--reason", answer.reason, "--expect", str(newest["sequence"])]
    moved: dict[str, Any] = _manage(root, "rollback", channel, *options, by=answer.by)
    return moved


def evidence_table(found: Mapping[str, Any]) -> str:
    """What the gates found, in Markdown."""
    verdict = "passes every gate" if found["passed"] else "**fails**, and needs an override"
    lines = [f"# {found['digest'][:16]} for {found['channel']}: {verdict}", ""]
    lines += [f"The channel serves `{found['serves'][:16]}` now." if found["serves"] else "Nothing is served yet.", ""]
    lines += ["| gate | wanted | found | |", "|---|---|---|---|"]
    for check in found["evidence"]:
        mark = "passes" if check["passed"] else "**fails**"
        lines.append(f"| {check['gate']} | {check['wanted']} | {check['found']} | {mark} |")
    return "\n".join(lines)


def _ask(text: str) -> Approval:
    answer = pause_flow_run(
        wait_for_input=Approval.with_initial_data(description=text), timeout=WAIT_SECONDS, poll_interval=POLL_SECONDS
    )
    assert answer is not None
    return answer


def _declined(answer: Approval) -> dict[str, Any]:
    get_run_logger().info("declined by %s: %s", answer.by, answer.reason)
    return {"changed": False, "declined_by": answer.by, "reason": answer.reason}


def _manage(root: Path, command: str, name: str, *options: str, by: str | None = None, may_fail: bool = False) -> Any:
    """What a release manager's command prints as JSON. Raises the PipelineError that it left."""
    environment = dvc.environment() | ({"POINTSMAN_ACTOR": by} if by else {})
    line = [sys.executable, "-m", MODULE, command, "--json", *options, "--", name]
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and not (may_fail and done.stdout):
        raise dvc.left_error(Workspace(root), command) or PipelineError(done.stderr.strip())
    return json.loads(done.stdout)
