"""dvc.yaml tells the truth: a stage depends on its room and on the parts of `stages/shared` it imports, on no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.shared.params import Params

ROOT = Path(__file__).resolve().parents[2]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = ROOT / "stages" / "shared" / "params"
CATALOGUES = (PARAMS / "__init__.py", PARAMS / "whole.py")
"""They name every section of params.yaml. A room needs of these only what it reads: a parameter of publishing, added
or reworded, must not make the training stale."""
MODULE = re.compile(r"stages\.shared(\.\w+)+")


def modules_named_in(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, lazily too, and modules it names in a string to start them as a process."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            yield node.value


@cache
def handed_on(package: Path) -> dict[str, str]:
    """The names that a package's `__init__` hands on, and the module that each comes from."""
    init = package / "__init__.py"
    nodes = ast.parse(init.read_text(encoding="utf-8")).body if init.is_file() else []
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def file_of(name: str) -> Path | None:
    """The file that says what a dotted name is; None where there is none, or an empty one."""
    base = ROOT.joinpath(*name.split("."))
    if base.name in handed_on(base.parent):
        return file_of(handed_on(base.parent)[base.name])
    files = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in files if file.is_file() and file.stat().st_size), None)


@cache
def shared_files(path: Path) -> frozenset[Path]:
    """The files of `stages/shared` that a file needs directly."""
    if path in CATALOGUES:
        return frozenset()
    names = [name for name in modules_named_in(path) if name.startswith("stages.shared.")]
    return frozenset(file for name in names if (file := file_of(name)))


def needed(stage: str) -> list[str]:
    """Every file of `stages/shared` that a room needs, directly or through another, relative to the repository."""
    seen = {PARAMS / f"{name}.py" for name in sections(stage)} & {*PARAMS.iterdir()}
    todo = [*(ROOT / "stages" / stage).rglob("*.py"), *seen]
    while todo:
        for file in shared_files(todo.pop()) - seen:
            seen.add(file)
            todo.append(file)
    return sorted(file.relative_to(ROOT).as_posix() for file in seen)


def sections(stage: str) -> list[str]:
    """The sections of params.yaml that a room reads: `params.<section>` in its code and templates."""
    files = [path for path in (ROOT / "stages" / stage).rglob("*") if path.suffix in (".py", ".j2")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return [name for name in Params.model_fields if re.search(rf"params\.{name}\b", text)]


def stages_meant(node: ast.expr, module: ast.Module) -> set[str]:
    """The stages that an argument names: in words, or by a name that a constant or a loop gives it in the same file."""
    if not isinstance(node, ast.Name):
        return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)} & set(STAGES)
    given = [(each.target, each.iter) for each in ast.walk(module) if isinstance(each, (ast.For, ast.comprehension))]
    given += [(each.targets[0], each.value) for each in ast.walk(module) if isinstance(each, ast.Assign)]
    values = [value for target, value in given if node.id in {getattr(each, "id", "") for each in ast.walk(target)}]
    return {stage for value in values for stage in stages_meant(value, module)}


def stages_read(stage: str, method: str) -> set[str]:
    """The earlier stages whose `artifacts` or `metrics` a room names."""
    found = set()
    for path in (ROOT / "stages" / stage).rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                meant = stages_meant(node.args[0], module)
                assert meant, f"{path}, line {node.lineno}: name the stage in words, so that this test can read it"
                found |= meant
    return found - {stage}


def upstream(stage: str) -> list[str]:
    """What a room reads of earlier stages; the folder goes with the metrics, since a plan follows the folders."""
    folders, metrics = stages_read(stage, "artifacts"), stages_read(stage, "metrics")
    names = [name for name in STAGES if name in folders | metrics]
    return [f"artifacts/{name}" for name in names] + [f"metrics/{name}.json" for name in names if name in metrics]


def parameters(stage: str) -> list[str]:
    """The sections that a room reads, and the images that it may run on; not where it runs, which changes nothing."""
    families = {"train": ["cpu", "gpu"], "evaluate": ["cpu", "gpu"]}.get(stage, ["cpu"])
    return [*sections(stage), *(f"stage.images.{family}" for family in families)]


def block(stage: str) -> str:
    """The `deps` and `params` of a stage as dvc.yaml should have them."""
    deps = [f"stages/{stage}", *needed(stage), *upstream(stage)]
    lines = [
        "    deps:",
        *(f"      - {dep}" for dep in deps),
        "    params:",
        *(f"      - {name}" for name in parameters(stage)),
    ]
    return "\n".join(lines)


def test_the_five_stages_stand_in_order() -> None:
    assert list(STAGES) == ["ingest", "profile", "train", "evaluate", "publish"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_shared_code_it_imports(stage: str) -> None:
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}
    wanted = {f"stages/{stage}", *needed(stage)}
    assert declared == wanted, (
        f"dvc.yaml, stage {stage}: missing {sorted(wanted - declared)}, superfluous {sorted(declared - wanted)}; "
        f"it should read\n{block(stage)}"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_room_and_writes_its_own_folder(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m flows.launch {stage}"
    whole = {f"metrics/{stage}.json": {"cache": False}}
    shown = {"metrics/headline.json": {"cache": False}} if stage == "evaluate" else whole
    assert STAGES[stage]["outs"] == [f"artifacts/{stage}", *([whole] if stage == "evaluate" else [])]
    assert STAGES[stage]["metrics"] == [shown], "what `dvc metrics diff` shows"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_what_it_reads_of_earlier_stages(stage: str) -> None:
    declared = [dep for dep in STAGES[stage]["deps"] if not dep.startswith("stages/")]
    assert declared == upstream(stage), f"dvc.yaml, stage {stage}, should read\n{block(stage)}"
    earlier = list(STAGES)[: list(STAGES).index(stage)]
    assert all(Path(dep).stem in earlier for dep in declared)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_parameters_it_reads(stage: str) -> None:
    declared, wanted = STAGES[stage]["params"], parameters(stage)
    assert sorted(declared) == sorted(wanted), f"dvc.yaml, stage {stage}, should read\n{block(stage)}"


def test_a_parameter_added_to_publishing_or_evaluation_makes_no_earlier_stage_stale() -> None:
    for stage in ("ingest", "profile", "train"):
        assert not {"stages/shared/params/publish.py", "stages/shared/params/evaluate.py"} & set(needed(stage))
