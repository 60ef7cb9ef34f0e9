"""A retrain on real git, DVC and Prefect: a bare repository as remote, a DVC remote, a loopback forge, a worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import dvc
from flows.base import find_base
from flows.work_folder import STORE_HOME, WorkFolder, find_folder, known_offer, lend, open_folder, sole
from stages.shared.errors import ConfigurationError, ConflictError
from stages.shared.workspace import RUNS
from tests.faults.secrecy import holders, nobody_shows

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hush-hush-0123456789"
FIRST = """
import os, pathlib, time
from stages.shared.entry import run_stage

def main(params, workspace):
    marks = workspace.runs("first")
    marks.mkdir(parents=True, exist_ok=True)
    with open(os.environ["COUNT"], "a") as out:
        out.write("first\\n")
    folder = workspace.artifacts("first")
    folder.mkdir(parents=True)
    (folder / "text").write_text(str(params.ingest.sizes.train))

if __name__ == "__main__":
    raise SystemExit(run_stage("first", main))
"""
EVALUATE = """
import json, os, pathlib
import pyarrow as pa, pyarrow.parquet as pq
from stages.shared.artifacts import write_manifest
from stages.shared.entry import run_stage
from stages.shared.errors import DataError
from stages.shared.files import write_json

def row(method, index, right):
    return {
        "method": method, "pool": "seen", "dataset": "nq", "question_id": str(index), "question": f"q{index}?",
        "answers": ["a"], "prediction": "a" if right else "b", "em": float(right), "cost": 1.0, "called": ["Arlix"],
        "transcript": "t",
    }

def main(params, workspace):
    with open(os.environ["COUNT"], "a") as out:
        out.write("evaluate\\n")
    if pathlib.Path(os.environ["BROKEN"]).exists():
        raise DataError("row 7 is odd; remove it")
    right = int((workspace.artifacts("first") / "text").read_text()) // 8
    folder = workspace.artifacts("evaluate")
    folder.mkdir(parents=True)
    rows = [row(name, i, i < limit) for name, limit in (("router", right), ("random", 3)) for i in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "episodes.parquet")
    write_manifest(folder, "pointsman/evaluate/1")
    average = {name: {"average": {"em": limit / 12, "cost": 1.0}} for name, limit in (("router", right), ("random", 3))}
    write_json(workspace.metrics("evaluate"), {"methods": average})

if __name__ == "__main__":
    raise SystemExit(run_stage("evaluate", main))
"""
STAGES = {
    "first": {"cmd": "python first.py", "deps": ["first.py"], "params": ["ingest"], "outs": ["artifacts/first"]},
    "evaluate": {
        "cmd": "python evaluate.py", "deps": ["evaluate.py", "artifacts/first"], "outs": ["artifacts/evaluate"],
        "metrics": [{"metrics/evaluate.json": {"cache": False}}],
    },
}  # fmt: skip
STORAGE = """
[core]
    remote = storage
['remote "storage"']
    url = ../../storage
"""
SETTING = {"ingest.sizes.train": 80}
HIDE = """
import os
from prefect.blocks.system import Secret
Secret(value=os.environ["FOR_THE_BLOCK"]).save("pointsman-forge-token", overwrite=True)
"""
REJECTING = "#!/bin/sh\necho 'retrains are closed today' >&2\nexit 1\n"


class Site:
    """A checkout whose pipeline has run and is pushed, its remotes, and a switch that breaks its evaluation."""

    def __init__(self, place: Path) -> None:
        self.place, self.root, self.origin = place, place / "checkout", place / "origin.git"
        self.storage, self.broken, self.count = place / "storage", place / "broken", place / "count"
        self.env = {"COUNT": str(self.count), "BROKEN": str(self.broken), "PYTHONPATH": str(ROOT)}

    def git(self, *arguments: str, root: Path | None = None) -> str:
        command = ["git", "-C", str(root or self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def pointsman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = dvc.environment() | self.env | {"COLUMNS": "200"}
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)

    def branches(self, root: Path) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads/retrain", root=root).split()

    def ran(self) -> list[str]:
        """The stages that ran since this was asked last."""
        found = self.count.read_text().split()
        self.count.write_text("")
        return found

    def commit(self, words: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", words)

    @property
    def work(self) -> Path:
        """The one work folder that is left."""
        (found,) = (self.root / ".pointsman" / "retrains").iterdir()
        return found

    @property
    def state(self) -> list[str]:
        """Everything that a retrain must leave as it is."""
        files = [path for name in ("artifacts", "metrics") for path in sorted((self.root / name).rglob("*"))]
        kept = [f"{path} {path.stat().st_mtime_ns}" for path in (*files, self.root / "dvc.lock")]
        return [*kept, self.git("status", "--short"), self.git("rev-parse", "HEAD"), self.git("branch", "--list")]


@pytest.fixture(scope="module")
def prepared(never_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site to copy: nothing in it names its own place."""
    site = Site(tmp_path_factory.mktemp("site"))
    shutil.copytree(never_run, site.root)
    (site.root / "second.py").unlink()
    (site.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (site.root / "first.py").write_text(FIRST)
    (site.root / "evaluate.py").write_text(EVALUATE)
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org"), ("commit.gpgsign", "false")):
        site.git("config", key, value)
    (site.root / ".dvc" / "config").write_text(STORAGE)
    env = dvc.environment() | site.env
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=site.root, env=env, check=True)
    site.git("checkout", "-qb", "main")
    site.commit("A pipeline that has run")
    subprocess.run(["git", "clone", "-q", "--bare", str(site.root), str(site.origin)], check=True)
    site.git("remote", "add", "origin", "../origin.git")
    return site.place


@pytest.fixture
def site(prepared: Path, tmp_path: Path) -> Site:
    shutil.copytree(prepared, tmp_path / "site", symlinks=True)
    found = Site(tmp_path / "site")
    found.count.write_text("")
    return found


class Deployed:
    """The deployment `retrain/pointsman`, run by a worker in a site's checkout."""

    def __init__(self, server: Any, site: Site) -> None:
        self.server, self.site, self.zones = server, site, ["Pacific/Kiritimati", "America/Adak"]
        (site.root / "flows").symlink_to(ROOT / "flows")
        server.run("-c", HIDE, FOR_THE_BLOCK=TOKEN)

    def start(self) -> str:
        """Begin a run with the setting; its id."""
        path = f"/deployments/{self.server.deployment()['id']}/create_flow_run"
        return str(self.server.call(path, {"parameters": {"settings": SETTING}})["id"])

    def work(self, run: str) -> tuple[str, str]:
        """Let a worker take it, in another time zone each time; how it ends, and what its state says."""
        with nobody_shows(TOKEN):
            self.server.work(self.site.root, **self.site.env, TZ=self.zones.pop())
        state = self.server.flow_run(run)["state"]
        return state["type"], state["message"]

    def retry(self, run: str) -> tuple[str, str]:
        """`prefect flow-run retry`."""
        self.server.run("-m", "prefect", "flow-run", "retry", run)
        return self.work(run)

    def told(self) -> list[str]:
        """The cards and tables of retrains."""
        found = self.server.call("/artifacts/filter", {"artifacts": {"key": {"like_": "retrain%"}}})
        return [artifact["data"] for artifact in found]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_scheduled_retrain_fails_goes_on_is_rejected_and_ends_in_a_branch_with_a_pull_request(
    site: Site, deployed_server: Any, forge: Any
) -> None:
    """It is retried by Prefect first, then gone on with by the same command in a terminal; the token is in a block."""
    (site.root / "infra").mkdir()
    (site.root / "infra" / "forge.yaml").write_text(f"{{kind: github, url: '{forge.url}', repository: owner/name}}")
    site.commit("Name the forge")
    deployed = Deployed(deployed_server, site)
    before, run = site.state, deployed.start()
    fails(site, deployed, run)
    made = is_rejected(site, deployed, run)

    forge.replies = [(200, []), (201, {"html_url": "https://forge.example/owner/name/pull/7"})]
    done = site.pointsman("retrain", "--set", "ingest.sizes.train=80", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["commit"], found["pull_request"]) == (made, "https://forge.example/owner/name/pull/7")
    assert site.branches(site.origin) == [found["branch"]]
    assert site.ran() == []
    assert list((site.root / ".pointsman" / "retrains").iterdir()) == []
    assert site.state == before

    is_commit_of(site, made, f"{deployed_server.flow_run(run)['name']} ({run})")
    is_proposed(site, forge, found["branch"])
    told = deployed.told()
    assert any("# evaluate failed" in text and "row 7 is odd" in text for text in told)
    assert any(f"# To review: {found['branch']}" in text and "/pull/7)" in text for text in told)
    assert any('"change": "+0.333"' in text for text in told)
    again = site.pointsman("retrain", "--set", "ingest.sizes.train=80", "--dry-run")
    assert f"Nothing would run: offered already as {found['branch']}." in again.stdout
    assert holders(TOKEN, site.place, deployed_server.home) == []


def fails(site: Site, deployed: Deployed, run: str) -> None:
    """A stage fails: no branch, and a folder with logs, the error and what the stages before it made."""
    site.broken.touch()
    ended, said = deployed.work(run)
    assert ended == "FAILED"
    assert "row 7 is odd; remove it" in said
    assert site.ran() == ["first", "evaluate"]
    state = site.work / "repository" / ".pointsman"
    assert json.loads((state / "errors" / "retrain.json").read_text())["kind"] == "data"
    assert "row 7 is odd" in (state / "logs" / "evaluate.log").read_text()
    assert site.branches(site.origin) + site.branches(site.root) == []
    site.broken.unlink()


def is_rejected(site: Site, deployed: Deployed, run: str) -> str:
    """The retry runs the rest alone; the remote rejects the branch, and the commit, which is returned, is kept."""
    hook = site.origin / "hooks" / "pre-receive"
    hook.write_text(REJECTING)
    hook.chmod(0o755)
    ended, said = deployed.retry(run)
    assert ended == "FAILED"
    assert "origin rejects the branch retrain/" in said
    assert "retrains are closed today" in said
    assert site.ran() == ["evaluate"]
    assert site.branches(site.origin) + site.branches(site.root) == []
    hook.unlink()
    return site.git("rev-parse", "HEAD", root=site.work / "repository")


def is_commit_of(site: Site, made: str, run: str) -> None:
    """The commit says what was set and which run made it, changes these files alone, and its data are stored."""
    message = site.git("log", "-1", "--format=%an%n%B", made, root=site.origin)
    assert message.startswith("Ada\nRetrain smoke: the router's EM 0.500 -> 0.833\n\nSet ingest.sizes.train: 80\n")
    trailer = site.git("log", "-1", "--format=%(trailers:key=Pointsman-Run,valueonly)", made, root=site.origin)
    assert trailer == run
    assert trailer.startswith("smoke from main at ")
    changed = site.git("diff", "--name-only", "main", made).split()
    assert changed == ["dvc.lock", "metrics/evaluate.json", "params.yaml"]
    stored = yaml.safe_load(site.git("show", f"{made}:dvc.lock"))["stages"]["first"]["outs"][0]["md5"]
    assert (site.storage / "files" / "md5" / stored[:2] / stored[2:]).is_file()


def is_proposed(site: Site, forge: Any, branch: str) -> None:
    """The pull request says what `pointsman diff` says."""
    (new,) = [request for request in forge.requests if request.method == "POST"]
    assert (new.body["head"], new.body["base"]) == (branch, "main")
    assert new.body["title"] == "Retrain smoke: the router's EM 0.500 -> 0.833"
    compared = site.pointsman("diff", "main", f"origin/{branch}").stdout
    assert "`router` answers 50.0% → 83.3%" in compared
    assert new.body["body"] == compared.replace(f"origin/{branch}", branch)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_retrain_of_what_is_up_to_date_makes_no_branch_and_says_so(site: Site) -> None:
    before = site.state
    done = site.pointsman("retrain")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing new, no branch: parameters, results and metrics are those of main." in done.stdout
    assert list((site.root / ".pointsman" / "retrains").iterdir()) == []
    assert site.branches(site.origin) + site.branches(site.root) + site.ran() == []
    assert site.state == before


def test_a_dry_run_says_what_would_run_and_leaves_nothing(site: Site) -> None:
    (site.root / "first.py").write_text("# not committed, and so left out\n")
    before = site.state
    done = site.pointsman("retrain", "--dry-run", "--set", "ingest.sizes.train=80", "--json")
    assert done.returncode == 0, done.stderr
    assert "not committed are left out" in done.stderr
    found = json.loads(done.stdout)
    assert (found["base"], found["commit"], found["offered"]) == ("main", site.git("rev-parse", "main"), None)
    assert [(item["stage"], item["reasons"]) for item in found["stages"]] == [
        ("first", ["ingest.sizes.train: 48 -> 80"]),
        ("evaluate", ["first runs first, and may change what it reads"]),
    ]
    assert list((site.root / ".pointsman" / "retrains").iterdir()) == []
    assert site.state == before


def test_the_second_of_two_retrains_hears_who_is_at_work(site: Site) -> None:
    with sole(site.root, "sandbox from main at 1f2e3d4c5b6a"):
        done = site.pointsman("retrain", "--dry-run")
    assert done.returncode == 1
    assert "another retrain of this checkout is at work: sandbox from main at 1f2e3d4c5b6a (process " in done.stderr
    with sole(site.root, "the next"), pytest.raises(ConflictError, match="the next"), sole(site.root, "a third"):
        pass


def test_a_wrong_parameter_is_refused_before_anything_is_cloned(site: Site) -> None:
    done = site.pointsman("retrain", "--dry-run", "--set", "ingest.speed=8")
    assert done.returncode == 2
    assert "params.yaml of main with ingest.speed=8:\n  ingest.speed: unknown key" in done.stderr


def test_where_the_base_moves_on_the_clone_is_new_and_what_stages_resume_from_is_kept(site: Site) -> None:
    def opened() -> WorkFolder:
        base = find_base(site.root, "")
        return open_folder(site.root, find_folder(site.root, "elsewhere", base, SETTING), base, SETTING)

    (site.root / ".dvc" / "config").write_text("")
    site.commit("Have no remote of DVC")
    first = opened()
    assert not first.has_storage
    assert first.folder.parent == site.root / "elsewhere"
    assert (first.root / "artifacts" / "first" / "text").read_text() == "48"
    resumed = Path(first.environment[RUNS]) / "first" / "checkpoint"
    resumed.parent.mkdir(parents=True)
    resumed.touch()
    assert first.environment[STORE_HOME] == str(site.root / ".pointsman")
    assert opened() == first
    (site.root / "first.py").write_text(FIRST + "# mended\n")
    site.git("commit", "-qam", "Mend it")
    second = opened()
    assert (second.folder, second.branch == first.branch) == (first.folder, False)
    assert "mended" in (second.root / "first.py").read_text()
    assert resumed.exists()


def test_what_was_offered_on_another_day_is_known(site: Site) -> None:
    base = find_base(site.root, "")
    folder = find_folder(site.root, "elsewhere", base, SETTING)
    branch = open_folder(site.root, folder, base, SETTING).branch
    (folder / "retrain.json").unlink()
    assert known_offer(site.root, folder, base, SETTING) is None
    earlier = "retrain/1999-12-31-" + branch.rpartition("-")[2]
    site.git("push", "-q", "origin", f"main:refs/heads/{earlier}")
    assert known_offer(site.root, folder, base, SETTING) == earlier


def test_files_that_parameters_name_and_git_does_not_hold_are_lent_to_the_clone(tmp_path: Path) -> None:
    checkout, clone = tmp_path / "checkout", tmp_path / "clone"
    for folder in (checkout / "questions", checkout / "kept", clone / "kept"):
        folder.mkdir(parents=True)
    (clone / "params.yaml").write_text("{a: {folder: questions, other: [kept, nowhere]}, publish: {folder: ../clone}}")
    lend(checkout, clone)
    assert (clone / "questions").resolve() == checkout / "questions"
    assert not (clone / "kept").is_symlink()
    (clone / "params.yaml").write_text("{a: {folder: ../clone}}")
    with pytest.raises(ConfigurationError, match=r"'\.\./clone' leads elsewhere from a clone; make"):
        lend(checkout, clone)
