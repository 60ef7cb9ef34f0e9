"""Where a release comes from: an in-toto statement with SLSA's provenance, as a file of the release.

It holds what decided the content, and nothing of the run: two publishes of the same content are one release. So the
commit is not in it, since one that changes nothing would make another release: see `stages.publish.attestation`.
POINTSMAN_IMAGE names the container image.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from stages.publish.manifest import canonical_json
from stages.shared.errors import ConfigurationError

IMAGE_ENV = "POINTSMAN_IMAGE"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:pointsman:pipeline:1"
BUILDER = "urn:pointsman:stages.publish"


def render_provenance(params: Mapping[str, Any], materials: Mapping[str, str], products: Mapping[str, str]) -> bytes:
    """The statement: `products` (SHA-256 by name) were made with `params` from `materials` (SHA-256 by name).

    Raises ConfigurationError where the environment names an image that is none.
    """
    made_from = [*(_resource(name, digest) for name, digest in sorted(materials.items())), *named_image()]
    return canonical_json({
        "_type": STATEMENT,
        "subject": [_resource(name, digest) for name, digest in sorted(products.items())],
        "predicateType": PREDICATE,
        "predicate": slsa(params, made_from),
    })  # fmt: skip


def slsa(params: Mapping[str, Any], made_from: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """SLSA's predicate, version 1: how, with which parameters and from what, by whom."""
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": params,
            "internalParameters": {"python": platform.python_version()},
            "resolvedDependencies": made_from,
        },
        "runDetails": {"builder": {"id": BUILDER, "version": {"pointsman": version("pointsman")}}},
    }


def named_image() -> list[dict[str, Any]]:
    """The container image that the environment names. Raises ConfigurationError for one that is not named by digest."""
    image = os.environ.get(IMAGE_ENV)
    if not image:
        return []
    match = re.fullmatch(r"(?P<name>.*@)?sha256:(?P<digest>[0-9a-f]{64})", image)
    if match is None:
        raise ConfigurationError(f"{IMAGE_ENV}={image!r} is no image's digest; give NAME@sha256:…, or unset it")
    return [_resource((match["name"] or "image").rstrip("@"), match["digest"])]


def _resource(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}
