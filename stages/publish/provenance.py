"""Where a release comes from: an in-toto statement with SLSA's provenance, as a file of the release.

It holds what decided the content, and nothing of the run: two publishes of the same content are one release. So the
commit is not in it of itself, since a commit that changes nothing would make another release; who builds in CI and
wants it there sets POINTSMAN_COMMIT, and POINTSMAN_IMAGE for the container image.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from stages.publish.manifest import canonical_json
from stages.shared.errors import ConfigurationError

COMMIT_ENV, IMAGE_ENV = "POINTSMAN_COMMIT", "POINTSMAN_IMAGE"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:pointsman:pipeline:1"
BUILDER = "urn:pointsman:stages.publish"


def render_provenance(params: Mapping[str, Any], materials: Mapping[str, str], products: Mapping[str, str]) -> bytes:
    """The statement: `products` (SHA-256 by name) were made with `params` from `materials` (SHA-256 by name).

    Raises ConfigurationError where the environment names a commit or image that is none.
    """
    return canonical_json({
        "_type": STATEMENT,
        "subject": [_resource(name, digest) for name, digest in sorted(products.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": params,
                "internalParameters": {"python": platform.python_version()},
                "resolvedDependencies": [
                    *(_resource(name, digest) for name, digest in sorted(materials.items())), *_named_by_environment(),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"pointsman": version("pointsman")}}},
        },
    })  # fmt: skip


def _resource(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}


def _named_by_environment() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if commit := os.environ.get(COMMIT_ENV):
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ConfigurationError(f"{COMMIT_ENV}={commit!r} is no commit; give all 40 digits, or unset it")
        found.append({"name": "source", "digest": {"gitCommit": commit}})
    if image := os.environ.get(IMAGE_ENV):
        match = re.fullmatch(r"(?P<name>.*@)?sha256:(?P<digest>[0-9a-f]{64})", image)
        if match is None:
            raise ConfigurationError(f"{IMAGE_ENV}={image!r} is no image's digest; give NAME@sha256:…, or unset it")
        found.append({"name": (match["name"] or "image").rstrip("@"), "digest": {"sha256": match["digest"]}})
    return found
