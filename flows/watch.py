"""The flow `watch`: have candidates drifted since they were profiled, and is the live release what it says?

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows import drift, dvc
from flows.log import begin_run
from flows.manage import manage
from flows.report import markdown
from flows.retrain import retrain as retrain_flow
from flows.secrets import lend_secrets
from stages.shared.errors import ConfigurationError, IntegrityError, PipelineError
from stages.shared.finding import Finding
from stages.shared.params import load_params
from stages.shared.pool.canary import look
from stages.shared.workspace import Workspace

NAME, RUN_NAME = "watch", "{channel}, {questions} questions a candidate"
DESCRIPTION = """\
Asks every candidate a few questions of its profile again, and hashes what a channel serves.

A candidate that answers otherwise, or as another model, has **drifted**: the profile is marked as stale, and the next
`retrain` profiles again. Prices that an endpoint lists are compared with those in `params.yaml`.

- **questions**: how many to ask of each candidate.
- **agreement**: the least share of answers that are the profile's; below it, a candidate has drifted.
- **channel**: whose release is verified.
- **retrain**: retrain at once where candidates have drifted.

The artifact **watch** tells what was found. A run that finds something wrong fails.
"""
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@flow(name=NAME, flow_run_name=RUN_NAME, description=DESCRIPTION, validate_parameters=True)
def watch(
    questions: Annotated[int, Field(gt=0)] = 8,
    agreement: Share = 0.5,
    channel: str = "production",
    retrain: bool = False,
) -> dict[str, Any]:
    """Look at candidates and at the live release; mark the profile as stale where candidates drifted.

    Args:
        questions: How many of the profile's questions to ask of each candidate.
        agreement: The least share of answers that are the profile's.
        channel: Whose release is verified.
        retrain: Retrain at once where candidates have drifted.

    """
    begin_run()
    root = dvc.find_root(Path.cwd())
    lend_secrets(root)
    found = examine(root, questions, agreement, channel)
    _publish(found)
    if found["drifted"] and retrain:
        return found | {"retrain": retrain_flow()}
    if wrong(found):
        raise IntegrityError("\n  ".join(["something is not as it was:", *wrong(found)]))
    return found


def examine(root: Path, questions: int, agreement: float, channel: str) -> dict[str, Any]:
    """{drifted: names, renewed: since when, findings}; the mark is set, or taken away where every candidate answered.

    Raises DataError where there is no profile yet.
    """
    readings = look(load_params(root / "params.yaml"), Workspace(root), questions)
    drifted = [reading.candidate for reading in readings if reading.drifted(agreement)]
    findings = [finding for reading in readings for finding in reading.findings(agreement)]
    since = drift.mark(root, drifted) if drifted else None
    if not drifted and not any(reading.failures for reading in readings):
        drift.clear(root)
    findings.append(released(root, channel))
    return {"drifted": drifted, "renewed": since, "findings": [asdict(finding) for finding in findings]}


def wrong(found: dict[str, Any]) -> list[str]:
    """What is wrong, a line each."""
    lines = [finding for finding in found["findings"] if finding["state"] == "wrong"]
    return [f"{line['name']}: {line['found']}" + (f" ({line['todo']})" if line["todo"] else "") for line in lines]


def released(root: Path, channel: str) -> Finding:
    """Whether what a channel serves, and what it served before, is what it says."""
    name = f"channel {channel}"
    try:
        report = manage(root, "verify", channel, may_fail=True)
    except ConfigurationError as error:
        return Finding(name, "note", str(error))
    except PipelineError as error:
        return Finding.of(name, error)
    if report["faults"]:
        return Finding(name, "wrong", "; ".join(report["faults"]), f"pointsman rollback {channel}")
    return Finding(name, "good", f"releases of its history that are what they say: {len(report['releases'])}")


def _publish(found: dict[str, Any]) -> None:
    said = f"Drifted: {', '.join(found['drifted'])}" if found["drifted"] else "No candidate has drifted"
    rows = [(each["name"], each["state"], each["found"], each["todo"]) for each in found["findings"]]
    text = f"# {said}\n\n" + markdown(("what", "", "found", "to do"), rows)
    create_markdown_artifact(text, key=NAME, description=said)
    for line in wrong(found):
        get_run_logger().warning("%s", line)
