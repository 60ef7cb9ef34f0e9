"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stages.publish.answer import MILLIONTH
from stages.shared.episode.types import Episode
from stages.shared.pool.candidate import Candidate, Reply

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Every series, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pointsman_requests", "Chat requests, by how they ended.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "pointsman_request_seconds", "From a chat request to the end of its answer, the wait for a place included.",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge("pointsman_in_flight", "Questions being answered.", registry=self.registry)
        self.waiting = Gauge("pointsman_waiting", "Questions that wait for a place.", registry=self.registry)
        self._calls = Counter(
            "pointsman_calls", "Calls of candidates, by how they ended.", ["candidate", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._dollars = Counter(
            "pointsman_dollars", "USD that calls cost, prompt tokens included.", ["candidate"], registry=self.registry
        )
        self._reroutes = Counter(
            "pointsman_reroutes", "Calls that another candidate answered than was asked.", ["asked", "answered"],
            registry=self.registry,
        )  # fmt: skip
        self._tokens = Counter(
            "pointsman_tokens", "Tokens that the policy read and wrote.", ["kind"], registry=self.registry
        )
        self._release = Gauge(
            "pointsman_release_info", "The release that is served.", ["channel", "release", "sequence"],
            registry=self.registry,
        )  # fmt: skip
        self.swaps = Counter(
            "pointsman_swaps", "Moves of the channel that were followed (done), and looks that failed (refused).",
            ["outcome"], registry=self.registry,
        )  # fmt: skip

    def called(self, candidate: Candidate, reply: Reply) -> None:
        """A candidate was asked, and perhaps others in its place."""
        for who, each in reply.bills(candidate):
            cost = each.completion_tokens * who.price + each.prompt_tokens * who.prompt_price
            self._calls.labels(who.name, each.outcome.value).inc()
            self._dollars.labels(who.name).inc(cost * MILLIONTH)
        if reply.instead is not None:
            self._reroutes.labels(candidate.name, reply.instead.name).inc()

    def ended(self, episode: Episode) -> None:
        """An episode is over."""
        written = sum(episode.response_mask)
        self._tokens.labels("read").inc(len(episode.prompt_ids) + len(episode.response_ids) - written)
        self._tokens.labels("written").inc(written)

    def serves(self, channel: str, digest: str, sequence: int) -> None:
        """Another release is served."""
        self._release.clear()
        self._release.labels(channel, digest, str(sequence)).set(1)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
