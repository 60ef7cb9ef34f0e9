"""What infra defines for containers: bases by digest, nobody inside, limits; what never ran says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.container import NOBODY

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "infra/images").glob("Containerfile.*"))
NEVER_RAN = [
    "infra/compose.yaml", "infra/images/Containerfile.gpu", "infra/kubernetes/network.yaml",
    "infra/kubernetes/server.yaml", "infra/terraform/main.tf",
]  # fmt: skip


WHO = {
    "publisher": {
        "s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts", "s3:DeleteObject", "kms:Decrypt", "kms:GenerateDataKey",
    },
    "reader": {"s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "kms:Decrypt"},
}  # fmt: skip
"""Policy in Terraform -> all that it allows."""


def terraform(kind: str, name: str) -> str:
    """The block of that kind and name, without its comments."""
    text = "".join(path.read_text() for path in sorted((ROOT / "infra/terraform").glob("*.tf")))
    (block,) = re.findall(rf'^{kind} "{name}" \{{$(.*?)^\}}$', text, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+#.*", "", block)


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


def test_the_worker_finds_what_flows_need_as_a_nobody_on_a_read_only_root() -> None:
    (worker,) = (pod["containers"][0] for pod in pods() if pod.get("serviceAccountName") == "worker")
    given = {item["name"]: item["value"] for item in worker["env"]}
    assert given.keys() >= {"POINTSMAN_CHECKOUT", "PYTHONPATH", "USER"}
    assert {given[name].split("/")[1] for name in ("PREFECT_HOME", "DVC_SITE_CACHE_DIR")} == {"tmp"}


def test_every_service_of_compose_is_confined_and_heard_on_loopback_alone() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    assert set(services) == {"database", "server", "worker", "store", "registry"}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("who", WHO)
def test_who_publishes_and_who_serves_may_do_in_the_bucket_what_they_do_and_no_more(who: str) -> None:
    policy = terraform("data", f'aws_iam_policy_document" "{who}')
    allowed = {action for found in re.findall(r"actions\s+= \[(.*?)\]", policy) for action in found.split(", ")}
    assert allowed == {f'"{action}"' for action in WHO[who]}
    places = {place for found in re.findall(r"resources\s+= \[(.*?)\]", policy) for place in found.split(", ")}
    assert places == {"aws_s3_bucket.releases.arn", '"${local.prefix}/*"', "aws_kms_key.releases.arn"}


def test_the_bucket_keeps_versions_and_refuses_to_write_without_a_condition_or_without_tls() -> None:
    assert "object_lock_enabled = true" in terraform("resource", 'aws_s3_bucket" "releases')
    assert 'status = "Enabled"' in terraform("resource", 'aws_s3_bucket_versioning" "releases')
    closed = terraform("resource", 'aws_s3_bucket_public_access_block" "releases')
    assert re.findall(r"= (\w+)$", closed, re.MULTILINE) == ["true"] * 4
    tls, conditional = terraform("data", 'aws_iam_policy_document" "bucket').split("statement {")[1:]
    assert all('"Deny"' in each for each in (tls, conditional))
    assert re.findall(r"(?:actions|variable|values)\s+= (.+)", tls) == [
        '["s3:*"]', '"aws:SecureTransport"', '["false"]',
    ]  # fmt: skip
    assert re.findall(r"(?:actions|variable|values)\s+= (.+)", conditional) == [
        '["s3:PutObject"]', '"s3:if-none-match"', '["true"]', '"s3:if-match"', '["true"]',
        '"s3:ObjectCreationOperation"', '["true"]',
    ]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_RAN)
def test_what_never_ran_says_so_in_its_first_lines(name: str) -> None:
    assert "NEVER" in "".join((ROOT / name).read_text().splitlines(keepends=True)[:4])
