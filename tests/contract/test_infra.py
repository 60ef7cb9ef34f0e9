"""What infra defines for containers: bases by digest, nobody inside, limits; what never ran says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.container import NOBODY
from flows.server import SETTINGS
from stages.shared.params import load_params

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "infra/images").glob("Containerfile.*"))
NEVER_RAN = [
    "infra/images/Containerfile.gpu", "infra/kubernetes/network.yaml", "infra/kubernetes/server.yaml",
    "infra/terraform/main.tf",
]  # fmt: skip


WHO = {
    "publisher": {
        "s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload",
        "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:DeleteObject", "kms:Decrypt",
        "kms:GenerateDataKey",
    },
    "reader": {"s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "kms:Decrypt"},
}  # fmt: skip
"""Policy in Terraform -> all that it allows."""
ACTIONS = {
    "list_objects_v2": "s3:ListBucket", "get_object": "s3:GetObject", "head_object": "s3:GetObject",
    "put_object": "s3:PutObject", "delete_object": "s3:DeleteObject", "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject", "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload", "list_parts": "s3:ListMultipartUploadParts",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}  # fmt: skip
"""Call of boto3 -> what AWS wants of whoever makes it (Service Authorization Reference, Amazon S3)."""
OWN_SERVER_ONLY = {"create_bucket"}


def terraform(kind: str, name: str) -> str:
    """The block of that kind and name, without its comments."""
    text = "".join(path.read_text() for path in sorted((ROOT / "infra/terraform").glob("*.tf")))
    (block,) = re.findall(rf'^{kind} "{name}" \{{$(.*?)^\}}$', text, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+#.*", "", block)


def workloads() -> list[dict[str, Any]]:
    """What starts pods on Kubernetes."""
    paths = sorted((ROOT / "infra/kubernetes").glob("*.yaml"))
    found = [each["spec"] for path in paths for each in yaml.safe_load_all(path.read_text()) if "spec" in each]
    return [spec for spec in found if "template" in spec]


def pods() -> list[dict[str, Any]]:
    return [each["template"]["spec"] for each in workloads()]


def compose() -> dict[str, dict[str, Any]]:
    """The services by name."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    return services


@dataclass(frozen=True)
class Server:
    """A container of Prefect's server."""

    env: dict[str, str]
    kept: set[str]
    """Where what it writes outlives it."""
    fleeting: set[str]
    """Where it may write what is lost with it."""


def server_of_compose() -> Server:
    server = compose()["server"]
    sources = dict(reversed(each.rsplit(":", 1)) for each in server["volumes"])
    return Server(server["environment"], set(sources), set(server["tmpfs"]))


def server_of_kubernetes() -> Server:
    (found,) = (each for each in workloads() if "server" in each["template"]["spec"]["containers"][0]["name"])
    pod = found["template"]["spec"]
    (container,) = pod["containers"]
    claims = {each["metadata"]["name"] for each in found.get("volumeClaimTemplates", [])}
    empty = {each["name"] for each in pod["volumes"] if "emptyDir" in each}
    env = {each["name"]: each.get("value", "") for each in container["env"]}
    kept, fleeting = ({each["mountPath"] for each in container["volumeMounts"] if each["name"] in names}
                      for names in (claims, empty))  # fmt: skip
    return Server(env, kept, fleeting)


SERVERS = {"compose": server_of_compose, "kubernetes": server_of_kubernetes}


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
    for given in ({item["name"]: item["value"] for item in worker["env"]}, compose()["worker"]["environment"]):
        assert given.keys() >= {"POINTSMAN_CHECKOUT", "PYTHONPATH", "USER"}
        assert {given[name].split("/")[1] for name in ("PREFECT_HOME", "DVC_SITE_CACHE_DIR")} == {"tmp"}


def test_every_service_of_compose_is_confined_and_heard_on_loopback_alone() -> None:
    services = compose()
    assert set(services) == {"database", "server", "worker", "store", "registry"}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_database_of_compose_finds_the_folder_of_its_socket_as_its_image_has_it() -> None:
    """A new volume takes the owner from the image; a tmpfs may be root's own, where PostgreSQL is nobody."""
    database = compose()["database"]
    assert "/run/postgresql" in database["volumes"]
    assert database["tmpfs"] == ["/tmp"]


def test_the_store_of_compose_makes_the_bucket_that_a_release_goes_to() -> None:
    assert f"-bucket={load_params(ROOT / 'params.yaml').publish.bucket} " in compose()["store"]["command"][-1]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_started_again_knows_the_leases_of_runs_under_way(kind: str) -> None:
    server, name = SERVERS[kind](), "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    assert server.env[name] == SETTINGS[name]
    assert server.env["PREFECT_HOME"] in server.kept


def test_prefect_keeps_leases_below_its_home(tmp_path: Path) -> None:
    module = import_module(SETTINGS["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"])
    with temporary_settings({PREFECT_HOME: tmp_path}):
        assert module.ConcurrencyLeaseStorage().storage_path.is_relative_to(tmp_path)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_on_a_read_only_root_has_room_for_its_pages(kind: str) -> None:
    server = SERVERS[kind]()
    folder = Path(server.env["PREFECT_SERVER_UI_STATIC_DIRECTORY"])
    assert str(folder.parent) in server.fleeting


@pytest.mark.parametrize("who", WHO)
def test_who_publishes_and_who_serves_may_do_in_the_bucket_what_they_do_and_no_more(who: str) -> None:
    policy = terraform("data", f'aws_iam_policy_document" "{who}')
    allowed = {action for found in re.findall(r"actions\s+= \[(.*?)\]", policy) for action in found.split(", ")}
    assert allowed == {f'"{action}"' for action in WHO[who]}
    places = {place for found in re.findall(r"resources\s+= \[(.*?)\]", policy) for place in found.split(", ")}
    assert places == {"aws_s3_bucket.releases.arn", '"${local.prefix}/*"', "aws_kms_key.releases.arn"}


def test_who_publishes_may_make_every_call_that_the_store_makes() -> None:
    """Without one of them, a publisher that was killed would begin anew, and what it left would never be collected."""
    code = "".join((ROOT / "stages/publish" / f"{name}.py").read_text() for name in ("s3", "multipart", "ranges"))
    calls = {*re.findall(r"client\.(\w+)\(", code), *re.findall(r"get_paginator\(\"(\w+)\"\)", code)}
    assert {ACTIONS[call] for call in calls - {"get_paginator"} - OWN_SERVER_ONLY} <= WHO["publisher"]


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
