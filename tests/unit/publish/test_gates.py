"""A gate passes or fails by recorded numbers; a policy that cannot be meant is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.publish.gates import NONE_UNSEEN, NOTHING_SERVED, POLICY, Gate, Policies, Policy, evaluate, load_policies
from stages.shared.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]


def cell(em: float, cost: float = 10.0) -> dict[str, float]:
    return {"em": em, "em_low": em - 0.1, "em_high": em + 0.1, "f1": em, "cost": cost}


def recorded(em: float, cost: float = 10.0) -> dict[str, Any]:
    return {
        "methods": {
            "router": {"average": cell(em, cost), "nq": cell(em + 0.1)},
            "oracle": {"average": cell(0.9)},
            "random": {"average": cell(0.2)},
            "largest-llm": {"average": cell(0.3, 30.0)},
        },
        "router": {"unseen": {"methods": {"router": {"average": cell(0.4)}, "random": {"average": cell(0.1)}}}},
    }


def passes(em: float = 0.5, served: float | None = None, cost: float = 10.0, **gate: Any) -> bool:
    policy = Policy(gates=(Gate(**gate),))
    (check,) = evaluate(policy, recorded(em, cost), None if served is None else recorded(served), None)
    return check.passed


def test_a_bound_holds_on_both_sides() -> None:
    assert passes(metric="em", at_least=0.5, at_most=0.5)
    assert not passes(metric="em", at_least=0.51)
    assert not passes(metric="em", at_most=0.49)
    assert passes(metric="em", set="nq", at_least=0.6)


def test_a_cost_has_a_maximum() -> None:
    assert passes(metric="cost", at_most=10.0, cost=10.0)
    assert not passes(metric="cost", at_most=10.0, cost=10.1)


def test_a_margin_is_against_what_the_channel_serves_now() -> None:
    margin = {"metric": "em", "against": "served", "at_least": -0.02}
    assert passes(em=0.5, served=0.51, **margin)
    assert not passes(em=0.5, served=0.55, **margin)
    assert passes(em=0.0, served=None, **margin)


def test_the_examples_of_the_shipped_gates_can_be_taken_as_they_stand() -> None:
    lines = (ROOT / POLICY).read_text().splitlines()
    examples = "\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   "))
    found = Policy.model_validate(yaml.safe_load(examples))
    assert found.smoke[0].question == "what is the quarry of zumako ?"
    assert [type(each).__name__ for each in found.signed_by] == ["PosixPath", "Identity"]


SERVED = Gate(metric="em", against="served", at_least=-1.0)


def test_numbers_of_the_sandbox_are_not_held_against_those_of_real_questions() -> None:
    sandbox, real = recorded(0.9), recorded(0.5)
    sandbox["router"]["synthetic"], real["router"]["synthetic"] = True, False
    (check,) = evaluate(Policy(gates=(SERVED,)), sandbox, real, None)
    assert not check.passed
    assert check.found == "measured on synthetic questions, and what is served on real ones"
    assert all(each.passed for each in evaluate(Policy(gates=(SERVED,)), real, real, None))


def test_an_average_is_held_against_one_of_the_same_sets_only() -> None:
    easy, both = recorded(0.9), recorded(0.5)
    both["methods"]["router"]["musique"] = cell(0.1)
    (average,) = evaluate(Policy(gates=(SERVED,)), easy, both, None)
    assert not average.passed
    assert average.found == "the average of nq, and of what is served that of musique, nq"
    (one_set,) = evaluate(Policy(gates=(SERVED.model_copy(update={"set": "nq"}),)), easy, both, None)
    assert one_set.passed


def test_before_the_first_promotion_the_evidence_says_that_nothing_is_served() -> None:
    policy = Policy(gates=(Gate(metric="em", against="served", at_least=0.0),))
    (check,) = evaluate(policy, recorded(0.5), None, None)
    assert check.found == NOTHING_SERVED


def test_regret_is_the_distance_from_the_oracle_and_has_a_bound_with_unseen_candidates_too() -> None:
    assert passes(em=0.7, metric="em", against="oracle", at_least=-0.25)
    assert not passes(em=0.6, metric="em", against="oracle", at_least=-0.25)
    assert passes(metric="em", pool="unseen", at_least=0.4)
    assert passes(metric="em", pool="unseen", against="random", at_least=0.2)
    assert not passes(metric="em", pool="unseen", against="random", at_least=0.4)


@pytest.mark.parametrize(
    ("em", "p", "found", "passed"),
    [
        (0.5, 0.01, "0.3, p 0.01", True),
        (0.5, 0.2, "0.3, p 0.2", False),
        (0.1, 0.01, "-0.1, p 0.01", False),
        (0.5, None, "the router was not tested against random", False),
    ],
)
def test_a_lead_must_be_more_than_chance(em: float, p: float | None, found: str, passed: bool) -> None:
    gate = Gate(metric="em", against="random", p_at_most=0.05)
    metrics = recorded(em)
    metrics["router"]["versus"] = {} if p is None else {"random": {"p_holm": p}}
    (check,) = evaluate(Policy(gates=(gate,)), metrics, None, None)
    assert (check.wanted, check.found, check.passed) == ("p at most 0.05", found, passed)


@pytest.mark.parametrize("other", [{"metric": "f1"}, {"set": "nq"}, {"against": "served"}, {"against": None}])
def test_chance_is_known_for_the_router_s_average_em_alone(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="p_at_most is for"):
        Gate(**{"metric": "em", "against": "random", "p_at_most": 0.05, **other})


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"method": "rooter", "metric": "em"}, "did you mean 'router'"),
        ({"metric": "f1_low"}, "router has no f1_low on average"),
        ({"metric": "em", "set": "bamboogle"}, "router has no em on bamboogle"),
        ({"metric": "em", "against": "knn"}, "no knn was measured"),
        ({"metric": "em", "pool": "unseen", "against": "oracle"}, "no oracle was measured"),
    ],
)
def test_what_a_release_has_not_measured_it_has_not_passed(gate: dict[str, Any], says: str) -> None:
    (check,) = evaluate(Policy(gates=(Gate(**gate, at_least=-9.0),)), recorded(0.5), None, None)
    assert not check.passed
    assert says in check.found


def test_a_pool_that_holds_no_candidate_back_passes_the_gate_on_unseen_ones() -> None:
    policy = Policy(gates=(Gate(metric="em", pool="unseen", at_least=0.5),))
    (check,) = evaluate(policy, {**recorded(0.5), "router": {"unseen": None}}, None, None)
    assert (check.passed, check.found) == (True, NONE_UNSEEN)


DAMAGED: list[dict[str, Any]] = [
    {}, {"methods": None}, {"methods": {"router": {"average": {"em": None}}}}, {"methods": {"router": ["average"]}},
    {"methods": "router", "router": "unseen"}, {"methods": {"router": 1}, "router": {"unseen": [1], "versus": 2}},
]  # fmt: skip


@pytest.mark.parametrize("metrics", DAMAGED)
def test_damaged_metrics_pass_no_gate(metrics: dict[str, Any]) -> None:
    gates = (
        Gate(metric="em", at_least=0.0), Gate(metric="em", pool="unseen", at_least=0.0), SERVED,
        Gate(metric="em", against="random", p_at_most=0.5),
    )  # fmt: skip
    for served in DAMAGED:
        assert not any(check.passed for check in evaluate(Policy(gates=gates), metrics, served, None))


def test_a_number_that_is_none_passes_no_bound() -> None:
    assert not passes(em=float("nan"), metric="em", at_least=0.0)
    assert not passes(em=float("nan"), metric="em", at_most=1.0)


def test_a_required_signature_is_a_check_of_its_own() -> None:
    policy = Policy(signed_by=(Path("infra/release.pub"),))
    (unsigned,) = evaluate(policy, recorded(0.5), None, None)
    (signed,) = evaluate(policy, recorded(0.5), None, "infra/release.pub")
    assert (unsigned.passed, unsigned.found) == (False, "none")
    assert (signed.passed, signed.found) == (True, "infra/release.pub")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    return tmp_path


def write(root: Path, gate: dict[str, Any]) -> None:
    (root / POLICY).write_text(yaml.safe_dump({"channels": {"production": {"gates": [gate]}}, "other": {}}))


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"metric": "emm", "at_least": 0}, r"channels\.production\.gates\.0\.metric: no metric .* did you mean 'em'"),
        ({"metric": "em", "set": "hotpot", "at_least": 0}, "did you mean 'hotpotqa'"),
        ({"metric": "em", "atleast": 0}, "unknown key; did you mean 'at_least'"),
        ({"metric": "em"}, "needs at_least, at_most or p_at_most"),
        ({"metric": "em", "at_least": "high"}, "valid number"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_the_closest_match(
    root: Path, gate: dict[str, Any], says: str
) -> None:
    write(root, gate)
    with pytest.raises(ConfigurationError, match=says):
        load_policies(root)


@pytest.mark.parametrize("name", ["Production", "latest", "prod_eu", "beef"])
def test_a_policy_for_a_name_that_no_channel_can_have_is_refused(root: Path, name: str) -> None:
    """It would bind nobody: `production` would be left with what is asked of all others."""
    (root / POLICY).write_text(yaml.safe_dump({"channels": {name: {"gates": []}}, "other": {}}))
    with pytest.raises(ConfigurationError, match=f"no channel can be called '{name}'"):
        load_policies(root)


def test_what_is_asked_twice_is_refused_and_not_halved(root: Path) -> None:
    gate = "gates: [{metric: em, at_least: 0.9}]"
    (root / POLICY).write_text(f"channels:\n  production: {{{gate}}}\n  production: {{}}\nother: {{}}\n")
    with pytest.raises(ConfigurationError, match="'production' stands there twice"):
        load_policies(root)


@pytest.mark.parametrize("text", [None, "channels: [", "[]", "channels: {}"])
def test_a_policy_file_that_is_none_is_a_clear_error(root: Path, text: str | None) -> None:
    if text is not None:
        (root / POLICY).write_text(text)
    with pytest.raises(ConfigurationError, match=r"gates\.yaml"):
        load_policies(root)


def test_the_shipped_policy_gates_production_and_leaves_staging_open() -> None:
    policies = load_policies(ROOT)
    assert policies.of("production").gates
    assert policies.of("staging") == Policy()
    assert policies.of("anything") == policies.other


def test_the_shipped_policy_holds_for_a_router_better_than_chance_and_not_for_one_worse() -> None:
    policy = load_policies(ROOT).of("production")
    assert all(check.passed for check in evaluate(policy, recorded(0.5), recorded(0.51), None))
    assert not all(check.passed for check in evaluate(policy, recorded(0.1), None, None))


def test_a_channel_that_is_not_named_is_pointed_out_with_the_one_that_may_be_meant() -> None:
    """`--to prodction` would else make a channel that asks for nothing."""
    policies = Policies(channels={"production": Policy()}, other=Policy())
    assert policies.note("prodction") == (
        "infra/gates.yaml does not name prodction, so what it says under `other` holds. Did you mean production?"
    )
    assert "mean" not in policies.note("canary")
    assert policies.note("production") == ""


def test_a_channel_without_a_policy_of_its_own_takes_the_one_for_all_others() -> None:
    other = Policy(gates=(Gate(metric="em", at_least=0.5),))
    assert Policies(channels={}, other=other).of("canary") == other
