"""What a stage needs of the world outside its container: an image, the network, variables, folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.shared.params import Params
from stages.shared.params.stage import Family

IMAGE, RUNS, REPLIES, STORE_HOME = "POINTSMAN_IMAGE", "POINTSMAN_RUNS", "POINTSMAN_REPLIES", "POINTSMAN_STORE_HOME"
COMMIT = "POINTSMAN_COMMIT"
"""What a release is built from; who publishes attests it."""
ASKING = ("profile", "train", "evaluate")
"""The stages that ask candidates."""
ALWAYS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "POINTSMAN_THREADS", "POINTSMAN_RUN", "POINTSMAN_BUDGET", "POINTSMAN_FRESH",
    REPLIES,
)  # fmt: skip
ON_THE_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
PACKAGED = "package:"
CIS, CI_TOKENS = ("GITHUB_ACTIONS", "GITLAB_CI"), (
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "SIGSTORE_ID_TOKEN",
)  # fmt: skip
"""By which Sigstore's client knows a CI, and gets an identity token of it."""


@dataclass(frozen=True)
class Needs:
    """Of one stage, with these parameters, now."""

    image: str
    gpu: bool
    network: bool
    settings: dict[str, str]
    """Variables that are no secret."""
    keys: tuple[str, ...]
    """The names of variables that are."""
    reads: tuple[Path, ...]
    """Absolute paths outside the checkout."""
    writes: tuple[Path, ...]


def family_of(stage: str, params: Params) -> Family:
    """The family of images that a stage runs on."""
    return "gpu" if params.train.backend == "gpu" and stage in ("train", "evaluate") else "cpu"


def needs_of(stage: str, params: Params, root: Path, image: str) -> Needs:
    """What a stage needs to run in `image`. Its resume points are kept apart by image: another one starts anew."""
    keys = tuple(name for name in keys_of(stage, params) if os.environ.get(name))
    names = [*ALWAYS, *(ON_THE_NETWORK if needs_network(stage, params) else ())]
    names += [COMMIT, STORE_HOME, *_signing(params)] if stage == "publish" else []
    names += ["HF_ENDPOINT"] if _uses_hub(stage, params) else []
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    runs = Path(os.environ.get(RUNS) or root / ".pointsman" / "runs") / image.rpartition(":")[2][:12]
    settings = {**given, RUNS: str(runs), IMAGE: image, "PYTHONPATH": str(root), "USER": "pointsman"}
    writes = [root / "artifacts", root / "metrics", root / ".pointsman", runs, *_writes(stage, params, root)]
    writes += [Path(given[REPLIES]).parent] if REPLIES in given else []
    reads = [path for path in _reads(stage, params, root) if not path.is_relative_to(root)]
    return Needs(
        image, family_of(stage, params) == "gpu", needs_network(stage, params), settings, keys,
        tuple(reads), tuple(_outermost(writes)),
    )  # fmt: skip


def needs_network(stage: str, params: Params) -> bool:
    """Whether a stage reaches beyond its own loopback. The embedded store is shared with others on this machine's."""
    if stage == "publish":
        return params.publish.folder is None or params.publish.sigstore is not None
    return _uses_hub(stage, params) or (stage in ASKING and params.pool.kind == "api")


def _uses_hub(stage: str, params: Params) -> bool:
    questions = stage == "ingest" and params.ingest.source.kind == "hub"
    return questions or (stage == "train" and params.train.policy.kind == "hub")


def keys_of(stage: str, params: Params) -> Iterator[str]:
    """The names of the variables whose secrets a stage may need."""
    if stage in ASKING and params.pool.kind == "api":
        yield from sorted({item.key_env for item in params.pool.candidates if item.key_env})
    if stage == "publish" and params.publish.endpoint is not None:
        yield from (params.publish.access_key_env, params.publish.secret_key_env, "AWS_SESSION_TOKEN")
    if stage == "publish" and params.publish.sigstore is not None:
        yield from (params.publish.sigstore.token_env, *CI_TOKENS)
    if _uses_hub(stage, params):
        yield "HF_TOKEN"


def _signing(params: Params) -> tuple[str, ...]:
    """Variables that say how a release is signed, and are no secret."""
    sigstore = params.publish.sigstore
    return (params.publish.signing_key_env,) if sigstore is None else (f"{sigstore.token_env}_FILE", *CIS)


def _reads(stage: str, params: Params, root: Path) -> Iterator[Path]:
    yield from (Path(path) for path in params.stage.mounts)
    if stage == "ingest" and params.ingest.source.kind == "files":
        yield root / Path(params.ingest.source.folder).expanduser()
    if stage in ASKING and params.pool.kind == "local":
        models = (model.gguf for model in params.pool.models if not model.gguf.startswith(PACKAGED))
        yield from (root / Path(path).expanduser() for path in models)
    if stage == "publish":
        yield from (Path(os.environ[name]) for name in _signing(params) if name not in CIS and os.environ.get(name))
        if params.publish.sigstore is not None and params.publish.sigstore.trust != "public":
            yield root / Path(params.publish.sigstore.trust).expanduser()


def _writes(stage: str, params: Params, root: Path) -> Iterator[Path]:
    if stage == "publish" and params.publish.folder is not None:
        yield root / Path(params.publish.folder).expanduser()
    if stage == "publish" and os.environ.get(STORE_HOME):
        yield Path(os.environ[STORE_HOME])


def _outermost(paths: list[Path]) -> list[Path]:
    """Without those that lie in another one."""
    return [path for path in paths if not any(path != other and path.is_relative_to(other) for other in paths)]
