"""Which store a release goes to: the embedded server, or the S3 that params.yaml names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.publish.seaweed import serve_s3
from stages.publish.store import Keys, Location, S3Store
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params import PublishParams

AWS_KEY_ENV = "AWS_ACCESS_KEY_ID"
AWS_TOKEN_ENV = "AWS_SESSION_TOKEN"
SPARE = 256 << 20
"""Bytes of disk that the embedded server needs besides what is stored."""


@contextmanager
def open_store(params: PublishParams, state: Path, room: int = 0) -> Iterator[S3Store]:
    """The configured store, checked; without an endpoint the embedded server, running while the block does.

    `room` is how many bytes are to be stored. Raises ConfigurationError for missing or refused keys, a missing bucket
    or a wrong endpoint, TransientError when the endpoint does not answer, BudgetError when the disk is too full.
    """
    if params.endpoint is not None:
        store = S3Store(_location(params, params.endpoint), keys_from_environment(params))
        store.check()
        yield store
        return
    _check_disk(state, room)
    with serve_s3(state) as server:
        store = S3Store(_location(params, server.url), server.keys)
        store.ensure_bucket()
        store.check()
        yield store


def keys_from_environment(params: PublishParams) -> Keys:
    """The keys from the variables that params.yaml names. Raises ConfigurationError naming a missing variable."""
    for name in (params.access_key_env, params.secret_key_env):
        if not os.environ.get(name):
            raise ConfigurationError(
                f"publish.endpoint is {params.endpoint}, but the environment variable {name} with its key is not set; "
                "export it, or set publish.endpoint to null for the embedded server"
            )
    return Keys(
        access=os.environ[params.access_key_env],
        secret=os.environ[params.secret_key_env],
        origin=f"${params.access_key_env} and ${params.secret_key_env}",
        token=os.environ.get(AWS_TOKEN_ENV) if params.access_key_env == AWS_KEY_ENV else None,
    )


def _location(params: PublishParams, endpoint: str) -> Location:
    return Location(endpoint=endpoint, bucket=params.bucket, prefix=params.prefix, region=params.region)


def _check_disk(state: Path, room: int) -> None:
    state.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(state).free, 2 * room + SPARE
    if free < needed:
        raise BudgetError(
            f"{state} has {free >> 20} MiB free; to store a release and to check it takes {needed >> 20} MiB: "
            "free some, or set publish.endpoint to another S3 server"
        )
