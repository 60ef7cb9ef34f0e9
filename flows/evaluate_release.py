"""The flow `evaluate-release`: a published release, verified, on the questions and candidates of this checkout.

Annotations are evaluated here: in the process of a served run, Prefect cannot resolve them from their text.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows import dvc
from flows.limits import Hours, Usd
from flows.log import begin_run
from flows.manage import manage
from flows.report import SYNTHETIC, compare_methods, finding, markdown
from flows.reports import keep_reports
from flows.secrets import lend_secrets
from flows.stage_task import Place, deadline_in, run_command
from stages.shared.artifacts import write_manifest
from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import atomic_folder, read_json, read_yaml, write_text
from stages.shared.params import parse_params
from stages.shared.workspace import REPLIES, RUNS, Workspace

NAME = "evaluate-release"
METRICS = Path("metrics") / "evaluate.json"
CODE = ("flows", "stages")
OWN = ("episode",)
"""The sections of its parameters that a release brings; the rest are the checkout's."""
ROUTED = ("router", "one-call", "renamed")
"""The methods that the released policy plays, beside `forced:`."""
BEFORE_PPO = ("warm-start", "warm-start-renamed")
BASELINES = (
    "A release does not hold the policy from before PPO, which answers for the baselines where a release is made: here "
    "the released policy answers for them."
)
DESCRIPTION = """\
Evaluates a published release again, on the test questions and candidates of this checkout.

The release is hashed, downloaded and played as it is served: its policy, its prompt, the skills that it was shown.
Candidates are asked only what no evaluation here asked before. Nothing is published, promoted or changed.

- **release**: a channel, a digest, its first digits, or `latest`.
- **baselines**: evaluate the baselines of `evaluate.methods` too. It takes longer.
- **budget**: what candidates may cost in this run, USD.
- **hours**: after which the run stops.

The artifact **evaluate-release** sets what was measured beside what the release says of itself.
"""


@dataclass(frozen=True)
class Pulled:
    """A release on this machine, verified."""

    digest: str
    folder: Path

    @property
    def metrics(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = read_json(self.folder / METRICS)
        return found


@flow(name=NAME, flow_run_name="release {release}", description=DESCRIPTION, validate_parameters=True)
def evaluate_release(
    release: str = "production", baselines: bool = False, budget: Usd | None = None, hours: Hours | None = None
) -> dict[str, Any]:
    """Verify and pull a release, evaluate it on the checkout's questions, and set both measurements side by side.

    Args:
        release: A channel, a digest, its first digits, or `latest`.
        baselines: Evaluate the baselines too.
        budget: What candidates may cost in this run, USD.
        hours: After which the run stops, to be gone on with.

    """
    begin_run()
    root = dvc.find_root(Path.cwd())
    lend_secrets(root)
    pulled = fetch(root, release)
    folder = lay_out(root, pulled, baselines)
    place = Place(folder, environment=_environment(root, folder), deadline=deadline_in(hours), budget=budget)
    run_command("evaluate", [sys.executable, "-m", "flows.launch", "evaluate"], place)
    measured: dict[str, Any] = read_json(folder / METRICS)
    links = keep_reports(folder, root, f"{NAME}-{pulled.digest[:12]}")
    _publish(pulled, measured, links, baselines)
    router = {"release": pulled.metrics["methods"]["router"], "here": measured["methods"]["router"]}
    return {"digest": pulled.digest, "folder": str(folder), "router": {k: v["average"] for k, v in router.items()}}


def fetch(root: Path, name: str) -> Pulled:
    """A release, hashed in the store and again when it came. Raises IntegrityError where it is not what it says."""
    digest = manage(root, "show", name)["digest"]
    if faults := manage(root, "verify", digest, may_fail=True)["faults"]:
        raise IntegrityError("\n  ".join([f"release {digest[:16]} is not what it says:", *faults]))
    get_run_logger().info("Release %s: verified", digest[:16])
    return Pulled(digest, Path(manage(root, "pull", digest)["folder"]))


def lay_out(root: Path, pulled: Pulled, baselines: bool) -> Path:
    """A folder in which the stage evaluate finds the release as what was trained; the checkout stays as it is.

    Raises ConfigurationError where the checkout's questions or records are missing, or its candidates are others.
    """
    params = _params(root, pulled, baselines)
    folder = Workspace(root).state / "evaluations" / pulled.digest[:16]
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    for name in CODE:
        shutil.copytree(root / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    own = Workspace(folder)
    with atomic_folder(own.artifacts("ingest")) as made:
        _copy(Workspace(root).artifacts("ingest"), made)
    with atomic_folder(own.artifacts("profile")) as made:
        _copy(Workspace(root).artifacts("profile"), made)
        shutil.copyfile(pulled.folder / "descriptors.json", made / "descriptors.json")
        write_manifest(made, "pointsman/profile/1")
    with atomic_folder(own.artifacts("train")) as made:
        for name in ("policy", "warm_start"):  # a release holds no policy from before PPO
            _copy(pulled.folder / "policy", made / name)
        write_manifest(made, "pointsman/train/1")
    return folder


def _params(root: Path, pulled: Pulled, baselines: bool) -> dict[str, Any]:
    """The checkout's, with the release's own of how its episodes go."""
    own = read_yaml(root / "params.yaml")
    theirs = read_json(pulled.folder / "params.json")
    names = [sorted(_names(params["pool"])) for params in (own, theirs)]
    if names[0] != names[1]:
        raise ConfigurationError(
            f"release {pulled.digest[:16]} routes between {', '.join(names[1])}, and params.yaml has "
            f"{', '.join(names[0])}; check out a commit with its candidates, and evaluate it there"
        )
    found = {**own, **{section: theirs[section] for section in OWN}}
    found["evaluate"] = {**own["evaluate"], **({} if baselines else {"methods": []})}
    parse_params(found, f"params.yaml with what release {pulled.digest[:16]} brings")
    return found


def _is_shown(method: str, baselines: bool) -> bool:
    return method not in BEFORE_PPO and (baselines or method in ROUTED or method.startswith("forced:"))


def _names(pool: Mapping[str, Any]) -> list[str]:
    held = pool.get("experts") or pool.get("models") or pool.get("candidates") or []
    return [str(each["name"]) for each in held]


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ConfigurationError(f"{source} is not there; run the stages ingest and profile first: pointsman run")
    shutil.copytree(source, target, dirs_exist_ok=True)


def _environment(root: Path, folder: Path) -> dict[str, str]:
    """Replies are shared with the checkout's own evaluations; what it resumes from is not."""
    replies, runs = Workspace(root).replies.absolute(), folder / ".pointsman" / "runs"
    return {REPLIES: str(replies), RUNS: str(runs), "PYTHONPATH": str(folder)}


def _publish(pulled: Pulled, measured: dict[str, Any], links: list[str], baselines: bool) -> None:
    said = f"Release {pulled.digest[:16]}, measured again"
    rows = [row for row in compare_methods(pulled.metrics, measured) if _is_shown(row["method"], baselines)]
    create_table_artifact(table=rows, key=f"{NAME}-metrics", description=f"{said}: as published -> here")
    shown = ("method", "EM before", "EM", "change", "interval", "cost before", "cost")
    headings = ("method", "EM as published", "EM here", "change", "interval", "cost as published", "cost here")
    table = markdown(headings, [[row[column] for column in shown] for row in rows])
    synthetic = [SYNTHETIC] if measured.get("router", {}).get("synthetic") else []
    found = [finding(measured), BASELINES] if baselines else []
    where = f"Digest `{pulled.digest}`; `pointsman show {pulled.digest[:12]}` tells all of it."
    text = "\n\n".join(block for block in (f"# {said}", where, *synthetic, *found, table, *links) if block)
    create_markdown_artifact(text, key=NAME, description=said)
    get_run_logger().info("%s, run %s", said, flow_run.id)
