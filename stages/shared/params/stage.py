"""The section `stage`: where stages run. It changes nothing that they make, but for the image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from stages.shared.params.section import Section

Runtime = Literal["process", "podman", "docker", "kubernetes"]
Family = Literal["cpu", "gpu"]
Image = Annotated[str, Field(pattern=r"^(\S+@)?sha256:[0-9a-f]{64}$")]
"""`NAME@sha256:…` of a registry, or the id `sha256:…` of an image on this machine."""
Bytes = Annotated[str, Field(pattern=r"^[1-9]\d*[mg]$")]


class Images(Section):
    """One a stage family. Each is a dependency of its stages, so that a new image runs them again."""

    cpu: Image | None = None
    gpu: Image | None = None
    """Training and evaluation where train.backend is gpu."""


class Kubernetes(Section):
    """Jobs beside the worker that runs the flow, in one cluster."""

    namespace: str = "pointsman"
    claim: str = "pointsman-work"
    """The volume claim that holds the checkout."""
    mount: str = "/srv"
    """Where the worker, and so every stage, mounts it."""
    secret: str = "pointsman-keys"
    """The secret whose entries are the keys that stages take from their environment."""
    cpu: Annotated[str, Field(pattern=r"^[1-9]\d*m?$")] = "2"
    """Cores that a job asks for, or thousandths of one (`500m`); it may use more."""


class StageParams(Section):
    """Where stages run, and what they may take."""

    runtime: Runtime = "process"
    images: Images = Images()
    memory: Bytes = "12g"
    """Of a container at most; /tmp and shared memory count."""
    processes: PositiveInt = 4096
    """And threads, of a container at most."""
    mounts: tuple[str, ...] = ()
    """Absolute paths outside the checkout that stages read, such as models."""
    kubernetes: Kubernetes = Kubernetes()

    @model_validator(mode="after")
    def _images_are_used(self) -> StageParams:
        if self.runtime == "process" and self.images != Images():
            raise ValueError("stage.images names an image, and stage.runtime is process, which uses none; "
                             "set stage.images.cpu and stage.images.gpu to null, or choose podman")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _registry_is_named(self) -> StageParams:
        local = [image for image in (self.images.cpu, self.images.gpu) if image and "@" not in image]
        if self.runtime == "kubernetes" and local:
            raise ValueError(f"stage.images holds {local[0][:19]}…, which no cluster can pull; push it and give "
                             "NAME@sha256:…")  # fmt: skip
        return self
