"""Follows a channel: the release that it points to is loaded beside the one that is served, and takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.publish.channels import Event
from stages.publish.fetch import fetch_release, holds, read_manifest
from stages.publish.promotion import Desk, find
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.options import Options
from stages.publish.serving.refusal import Refusal
from stages.publish.serving.served import Served, load
from stages.shared.engines import Engine, on_this_cpu
from stages.shared.errors import ConfigurationError, PipelineError
from stages.shared.workspace import Workspace

_LOG = logging.getLogger(__name__)
LONGEST_PAUSE_S = 60.0
ROWS = 2
"""Sequences kept for each question at once: one that waits for a reply does not lose its own to a newcomer."""


class Follower:
    """What a channel serves, loaded; every few seconds it looks whether the channel was moved.

    A release that cannot be verified or loaded, or that is not signed as required, is refused: the one before stays.
    """

    def __init__(self, desk: Desk, metrics: Metrics, options: Options) -> None:
        """With `allow_unsigned`, a channel whose policy trusts nobody is served all the same."""
        self.channel = options.channel
        self.current: Served | None = None
        self._desk = desk
        self._state = Workspace(desk.root).state
        self._metrics = metrics
        self._options = options
        self._stopping = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._fault = ""

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """The release that is served now, kept open for the block. Raises Refusal before there is one."""
        if self.current is None:
            raise Refusal(503, "unavailable", "the release is being loaded; come again in a moment", retry_after_s=1)
        with self.current.used() as served:
            yield served

    async def look(self) -> None:
        """Serve what the channel points to now; nothing changes where that is served already, or anything is wrong.

        Raises ConfigurationError, IntegrityError or TransientError for what is wrong.
        """
        found = await asyncio.to_thread(self._find)
        if self.current is not None and found.hash == self.current.event.hash:
            return
        if self.current is not None and found.digest == self.current.digest:
            self.current.event = found
        else:
            self._swap(await self._load(found))
        self._metrics.swaps.labels("done").inc()
        self._metrics.serves(self.channel, found.digest, found.sequence)

    async def follow(self) -> None:
        """Look again and again, until told to stop; after a failure ever more rarely, up to once a minute."""
        pause_s = self._options.poll_s
        while not await self._stopped_within(pause_s):
            (failure,) = await asyncio.gather(self.look(), return_exceptions=True)
            if isinstance(failure, BaseException):
                self._refused(failure)
                pause_s = max(self._options.poll_s, min(2 * pause_s, LONGEST_PAUSE_S))
            else:
                self._fault, pause_s = "", self._options.poll_s

    def stop(self) -> None:
        """Ask `follow` to end; a release that is being loaded is loaded first."""
        self._stopping.set()

    async def close(self) -> None:
        """Close every release, once nobody uses it."""
        served, self.current = self.current, None
        if served is not None:
            await served.retire()
        await asyncio.gather(*self._retiring)

    def _find(self) -> Event:
        """The channel's newest event, its release found and signed as required."""
        found = find(self._desk, self.channel)
        if not self._options.allow_unsigned and not self._desk.policies().of(self.channel).signed_by:
            raise ConfigurationError(
                f"infra/gates.yaml names no key or identity that signs releases for {self.channel} (signed_by), so "
                "nothing vouches for what it serves; name one (`pointsman keys PATH`), or try with --allow-unsigned"
            )
        if found.event is None:
            raise ConfigurationError(f"{self.channel!r} is no channel; name one, such as production")
        folder = self._folder(found.digest)
        if (self.current is None or self.current.digest != found.digest) and not holds(folder, found.digest):
            fetch_release(self._desk.store, found.digest, folder, found.signed)
        return found.event

    async def _load(self, event: Event) -> Served:
        manifest = await asyncio.to_thread(read_manifest, self._desk.store, event.digest)
        rows = ROWS * self._options.concurrency
        engine: Engine = on_this_cpu
        if self._options.engine == "vllm":
            engine = self._options.vllm.load
        return await load(self._folder(event.digest), event, manifest.synthetic, self._state, rows, engine)

    def _swap(self, served: Served) -> None:
        before, self.current = self.current, served
        _LOG.info("%s serves release %s, number %d", self.channel, served.digest[:16], served.event.sequence)
        if before is not None:
            task = asyncio.create_task(before.retire(), name=f"retire {before.digest[:16]}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _refused(self, failure: BaseException) -> None:
        self._metrics.swaps.labels("refused").inc()
        fault = f"{type(failure).__name__}: {failure}"
        if fault != self._fault:
            kept = f"release {self.current.digest[:16]} stays" if self.current else "nothing is served"
            known = isinstance(failure, PipelineError)
            _LOG.error("%s cannot be followed, %s: %s", self.channel, kept, fault, exc_info=None if known else failure)
        self._fault = fault

    def _folder(self, digest: str) -> Path:
        return self._state / "releases" / digest

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True
