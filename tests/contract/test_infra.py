"""What infra defines for containers: bases by digest, nobody inside, limits; what never ran says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.container import NOBODY

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "infra/images").glob("Containerfile.*"))
NEVER_RAN = [
    "infra/compose.yaml", "infra/images/Containerfile.gpu", "infra/kubernetes/base.yaml",
    "infra/kubernetes/network.yaml", "infra/kubernetes/server.yaml", "infra/terraform/main.tf",
]  # fmt: skip


def pods() -> list[dict[str, Any]]:
    found = []
    for path in sorted((ROOT / "infra/kubernetes").glob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            if "template" in each.get("spec", {}):
                found.append(each["spec"]["template"]["spec"])
    return found


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_an_image_stands_on_a_digest_and_runs_as_nobody(path: Path) -> None:
    lines = path.read_text().splitlines()
    (base,) = (line for line in lines if line.startswith("ARG BASE="))
    assert len(base.partition("@sha256:")[2]) == 64
    assert f"USER {NOBODY}:{NOBODY}" in lines
    assert lines[-1].startswith("ENTRYPOINT")


def test_every_pod_is_nobody_with_nothing_to_write_and_a_limit() -> None:
    assert pods()
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        for one in [*pod["containers"], *pod.get("initContainers", [])]:
            assert one["securityContext"]["readOnlyRootFilesystem"]
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in one["resources"]["limits"]


def test_every_service_of_compose_is_confined_and_heard_on_loopback_alone() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    assert set(services) == {"database", "server", "worker", "store", "registry"}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", NEVER_RAN)
def test_what_never_ran_says_so_in_its_first_lines(name: str) -> None:
    assert "NEVER" in "".join((ROOT / name).read_text().splitlines(keepends=True)[:4])
