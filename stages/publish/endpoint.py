"""Which store a release goes to: a folder, the embedded server, or the S3 that params.yaml names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread

from stages.publish.folder import FolderStore
from stages.publish.location import Keys, Location
from stages.publish.store import Store
from stages.shared.errors import BudgetError, ConfigurationError
from stages.shared.params import PublishParams

AWS_KEY_ENV = "AWS_ACCESS_KEY_ID"
AWS_TOKEN_ENV = "AWS_SESSION_TOKEN"
HOME_ENV = "POINTSMAN_STORE_HOME"
"""The state folder beside which a store on this machine stands, where that is not the workspace's: a retrain works in a
clone, and publishes to the store of the checkout that it was cloned from."""
SPARE = 256 << 20
"""Bytes of disk that a store on this machine needs besides what is stored."""


@contextmanager
def open_store(
    params: PublishParams, state: Path, room: int = 0, *, writing: bool = False, ahead: Sequence[str] = ()
) -> Iterator[Store]:
    """The configured store, checked; the embedded server runs while the block does.

    `room` is how many bytes are to be stored; `writing` also tries what writers rest on; `ahead` names modules that the
    caller wants next, to be loaded while the embedded server starts. Raises ConfigurationError for
    missing or refused keys, a missing bucket, a wrong endpoint or a place without conditional writes, TransientError
    when the endpoint does not answer, BudgetError when the disk is too full.
    """
    with _store(params, _home(state), room, ahead) as store:
        if writing:
            store.probe()
        yield store


def store_name(params: PublishParams, state: Path) -> str:
    """What the configured store is called, the same in every process: the embedded server changes its port."""
    if params.folder is not None:
        return str(_folder(params.folder, _home(state)))
    return f"{params.endpoint or 'embedded'}/{params.bucket}/{params.prefix.strip('/')}"


@contextmanager
def _store(params: PublishParams, state: Path, room: int, ahead: Sequence[str]) -> Iterator[Store]:
    if params.folder is not None:
        _check_disk(state, room)
        yield FolderStore(_folder(params.folder, state))
        return
    if params.endpoint is not None:
        from stages.publish.s3 import S3Store

        store = S3Store(_location(params, params.endpoint), keys_from_environment(params))
        store.check()
        yield store
        return
    from stages.publish.seaweed import serve_s3

    _check_disk(state, room)
    loading = Thread(target=_load, args=(ahead,), daemon=True)
    loading.start()
    with serve_s3(state) as server:
        loading.join()
        from stages.publish.s3 import S3Store

        store = S3Store(_location(params, server.url), server.keys)
        store.ensure_bucket()
        store.check()
        yield store


def _load(modules: Sequence[str]) -> None:
    import_module("stages.publish.s3").warm()
    for name in modules:
        import_module(name)


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


def _home(state: Path) -> Path:
    return Path(os.environ.get(HOME_ENV) or state)


def _folder(given: str, state: Path) -> Path:
    return (state.absolute().parent / Path(given).expanduser()).resolve()


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
