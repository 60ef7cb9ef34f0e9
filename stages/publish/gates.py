"""Gates: what a release must have measured, and be signed by, before a channel serves it (infra/gates.yaml)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.publish.channels import is_channel_name
from stages.publish.evidence import Check
from stages.publish.trust import Identity, Signatory
from stages.shared.errors import ConfigurationError
from stages.shared.files import read_yaml
from stages.shared.params import DATASETS

POLICY = Path("infra") / "gates.yaml"
SERVED = "served"
AVERAGE = "average"
SETS = (*DATASETS, AVERAGE)
METRICS = (
    "em", "em_low", "em_high", "f1", "f1_low", "f1_high", "cost", "cost_low", "cost_high", "cost_total", "own_cost",
    "own_tokens", "own_read", "calls",
)  # fmt: skip
"""The numbers of a cell of metrics/evaluate.json: shares of 1, costs in millionths of a dollar a question."""
NOTHING_SERVED = "nothing is served yet"
NONE_UNSEEN = "no candidate is held back"

Metrics = Mapping[str, Any]
"""The content of metrics/evaluate.json."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Gate(_Closed):
    """A bound on one number of a release, or on how far it is from another."""

    metric: str
    set: str = AVERAGE
    method: str = "router"
    pool: Literal["seen", "unseen"] = "seen"
    """`unseen`: measured with the candidates added that training never saw."""
    against: str | None = None
    """Bounds the difference to the same number of this method, or of the release that the channel serves (`served`)."""
    at_least: float | None = None
    at_most: float | None = None
    p_at_most: Annotated[float, Field(gt=0, le=1)] | None = None
    """The router must be better on average than that method, by McNemar's exact test corrected by Holm."""

    @field_validator("metric", "set")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        known = METRICS if info.field_name == "metric" else SETS
        if value not in known:
            raise ValueError(f"no {info.field_name} is called {value!r}{_hint(value, known)}")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Gate:
        if (self.at_least, self.at_most, self.p_at_most) == (None, None, None):
            raise ValueError("a gate needs at_least, at_most or p_at_most")
        tested = (self.metric, self.set, self.method, self.pool) == ("em", AVERAGE, "router", "seen")
        if self.p_at_most is not None and not (tested and self.against not in (None, SERVED)):
            raise ValueError("p_at_most is for the router's average em against a method of the same release")
        return self

    def __str__(self) -> str:
        against = f" minus {self.against}" if self.against else ""
        return f"{self.method}{against}: {self.metric} on {self.set}{', unseen pool' * (self.pool == 'unseen')}"

    @property
    def bounds(self) -> str:
        """As in `at least 0.7`."""
        named = (("at least", self.at_least), ("at most", self.at_most), ("p at most", self.p_at_most))
        return ", ".join(f"{word} {bound:g}" for word, bound in named if bound is not None)


class SmokeQuestion(_Closed):
    """A question that a release itself must answer before it is promoted."""

    question: Annotated[str, Field(pattern=r"\S")]
    answers: Annotated[tuple[str, ...], Field(min_length=1)]
    """One of these, by exact match as in evaluation."""


class Policy(_Closed):
    """What one channel asks of a release."""

    gates: tuple[Gate, ...] = ()
    smoke: tuple[SmokeQuestion, ...] = ()
    """Asked last, and only of a release that passes all else: that takes seconds, and candidates may cost."""
    signed_by: tuple[Signatory, ...] = ()
    """Public keys, seen from the repository, and identities: one must have signed; none: unsigned ones pass."""


class Policies(_Closed):
    """The whole of infra/gates.yaml."""

    channels: dict[str, Policy]
    other: Policy
    """For every channel that is not named."""

    @field_validator("channels")
    @classmethod
    def _nameable(cls, channels: dict[str, Policy]) -> dict[str, Policy]:
        """A policy under a name that no channel has would bind nobody, and be missed by nobody."""
        if wrong := [name for name in channels if not is_channel_name(name)]:
            raise ValueError(f"no channel can be called {wrong[0]!r}: in lower case, as in `production`")
        return channels

    def of(self, channel: str) -> Policy:
        """The policy of a channel."""
        return self.channels.get(channel, self.other)

    def note(self, channel: str) -> str:
        """What whoever names a channel without a policy of its own should know; empty where it has one."""
        if channel in self.channels:
            return ""
        close = difflib.get_close_matches(channel, list(self.channels), n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        return f"{POLICY} does not name {channel}, so what it says under `other` holds.{meant}"


def load_policies(root: Path) -> Policies:
    """Read infra/gates.yaml. Raises ConfigurationError naming every wrong key, metric and set."""
    path = root / POLICY
    try:
        return Policies.model_validate(read_yaml(path))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; it says what each channel asks of a release") from error
    except ValidationError as error:
        raise ConfigurationError(
            f"{path}:\n" + "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        ) from error


def evaluate(
    policy: Policy, release: Metrics, served: Metrics | None, signer: str | None, others: Sequence[str] = ()
) -> tuple[Check, ...]:
    """Every gate of a policy, from what releases have recorded.

    `served` is of the release that the channel serves, None before the first; `signer` is the trusted key or identity
    that has signed the release, None where none has, and `others` are who claims to have.
    """
    checks = [_check(gate, release, served) for gate in policy.gates]
    if policy.signed_by:
        wanted = "by " + " or ".join(map(str, policy.signed_by))
        found = signer or ("by " + ", ".join(others) if others else "none")
        checks.append(Check(gate="signature", wanted=wanted, found=found, passed=signer is not None))
    return tuple(checks)


def _check(gate: Gate, release: Metrics, served: Metrics | None) -> Check:
    if gate.against == SERVED and served is None:
        return Check(gate=str(gate), wanted=gate.bounds, found=NOTHING_SERVED, passed=True)
    if gate.pool == "unseen" and _holds_none_back(release):
        return Check(gate=str(gate), wanted=gate.bounds, found=NONE_UNSEEN, passed=True)
    if gate.against == SERVED and (fault := _incomparable(gate, release, served)):
        return Check(gate=str(gate), wanted=gate.bounds, found=fault, passed=False)
    value = _number(release, gate, gate.method)
    if isinstance(value, float) and gate.against is not None:
        other = _number(release, gate, gate.against) if gate.against != SERVED else _number(served, gate, gate.method)
        value = value - other if isinstance(other, float) else other
    if isinstance(value, str):
        return Check(gate=str(gate), wanted=gate.bounds, found=value, passed=False)
    low, high = gate.at_least, gate.at_most
    passed = (low is None or value >= low) and (high is None or value <= high)
    if gate.p_at_most is None:
        return Check(gate=str(gate), wanted=gate.bounds, found=f"{value:.4g}", passed=passed)
    p = _chance(release, str(gate.against))
    if isinstance(p, str):
        return Check(gate=str(gate), wanted=gate.bounds, found=p, passed=False)
    better = value > 0 and p <= gate.p_at_most
    return Check(gate=str(gate), wanted=gate.bounds, found=f"{value:.4g}, p {p:.2g}", passed=passed and better)


def _holds_none_back(metrics: Metrics) -> bool:
    router = table(metrics, "router")
    return "unseen" in router and router["unseen"] is None


def _incomparable(gate: Gate, release: Metrics, served: Metrics | None) -> str | None:
    """Why the numbers of two releases say nothing about each other; None where they may, or one has none."""
    worlds = [table(metrics, "router").get("synthetic") for metrics in (release, served)]
    if None not in worlds and worlds[0] != worlds[1]:
        ours, theirs = ("synthetic" if synthetic else "real" for synthetic in worlds)
        return f"measured on {ours} questions, and what is served on {theirs} ones"
    sets = [sorted({*table(_methods(gate, each), gate.method)} - {AVERAGE}) for each in (release, served)]
    if gate.set == AVERAGE and all(sets) and sets[0] != sets[1]:
        ours, theirs = (", ".join(each) for each in sets)
        return f"the average of {ours}, and of what is served that of {theirs}"
    return None


def _number(metrics: Metrics | None, gate: Gate, method: str) -> float | str:
    """The number, or why there is none."""
    methods = _methods(gate, metrics)
    if method not in methods:
        return f"no {method} was measured{_hint(method, methods)}"
    value = table(methods, method, gate.set).get(gate.metric)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{method} has no {gate.metric} on {gate.set}"
    return float(value)


def _methods(gate: Gate, metrics: Metrics | None) -> Metrics:
    return table(metrics, "router", "unseen", "methods") if gate.pool == "unseen" else table(metrics, "methods")


def table(found: Any, *names: str) -> Metrics:
    """What is recorded under these names, one within the other; nothing where no table is."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _chance(metrics: Metrics, against: str) -> float | str:
    """How likely so large a difference is by chance, or why it is not known."""
    tests = table(metrics, "router", "versus")
    p = table(tests, against).get("p_holm")
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        return f"the router was not tested against {against}{_hint(against, tests)}"
    return float(p)


def _hint(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(known)}" if known else ""


def _explain(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        fields = {"channels", "other", *Policy.model_fields, *Gate.model_fields}
        fields |= {*SmokeQuestion.model_fields, *Identity.model_fields}
        return f"{place}: unknown key{_hint(str(fault['loc'][-1]), sorted(fields))}"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
