"""Early warning: routing to one candidate whatever is asked, as Router-R1 does with 98 % of its calls."""

from __future__ import annotations

from collections.abc import Sequence

from stages.train.ppo.record import StepRecord

SHARE = 0.9
"""A candidate with more of the calls than this has become the only one that matters."""
STEPS = 5
"""Training steps that the share is taken over: one step's questions may be of one kind."""


def collapsed(records: Sequence[StepRecord]) -> tuple[str, float] | None:
    """The candidate that more than SHARE of the calls of the last STEPS training steps went to, with that share."""
    last = [record for record in records if record.phase == "train"][-STEPS:]
    calls = sum(record.calls * record.n for record in last)
    if len(last) < STEPS or not calls:
        return None
    names = {name for record in last for name in record.shares}
    shares = {name: sum(r.shares.get(name, 0.0) * r.calls * r.n for r in last) / calls for name in sorted(names)}
    name = max(shares, key=lambda name: shares[name])
    return (name, shares[name]) if shares[name] > SHARE else None


def warnings(records: Sequence[StepRecord]) -> list[str]:
    """For a person: how routing stands at the end of these records."""
    found = collapsed(records)
    if found is None:
        return []
    name, share = found
    return [
        f"routing has collapsed: {share:.0%} of the calls of the last {STEPS} steps went to {name}; look at its price "
        "and descriptor, raise train.ppo.entropy, or shuffle and rename the roster"
    ]
