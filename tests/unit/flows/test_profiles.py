"""The named parameter sets, and `pointsman use`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from flows.profiles import profile_names, use_profile
from stages.shared.errors import ConfigurationError
from stages.shared.params import DATASETS, load_params
from stages.shared.sandbox.lexicon import CANDIDATE_NAMES

ROOT = Path(__file__).resolve().parents[3]
WANTED = ("local", "paper-llama", "paper-qwen", "sandbox", "smoke")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "infra" / "profiles", tmp_path / "infra" / "profiles")
    return tmp_path


def profile(name: str):
    return load_params(ROOT / "infra" / "profiles" / f"{name}.yaml")


def test_every_shipped_profile_parses_and_bears_its_own_name() -> None:
    assert profile_names(ROOT) == WANTED
    assert [profile(name).profile_name for name in WANTED] == list(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_a_profile_holds_every_section_that_a_stage_tracks(name: str) -> None:
    """DVC refuses to run a stage whose parameters are not all there."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    held = yaml.safe_load((ROOT / "infra" / "profiles" / f"{name}.yaml").read_text())
    for key in {key for stage in stages.values() for key in stage.get("params", [])}:
        place = held
        for part in key.split("."):
            assert part in place, key
            place = place[part]


def test_params_yaml_is_the_profile_it_names() -> None:
    name = load_params(ROOT / "params.yaml").profile_name
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "infra" / "profiles" / f"{name}.yaml").read_bytes()


@pytest.mark.parametrize("name", ["sandbox", "smoke"])
def test_the_sandbox_has_six_seen_experts_and_two_unseen_ones(name: str) -> None:
    experts = profile(name).pool.experts
    assert [expert.seen for expert in experts].count(True) == 6
    assert [expert.seen for expert in experts].count(False) == 2
    assert all(set(expert.skill) == {"plant", "song", "stone", "town"} for expert in experts)


def test_the_sandbox_rewards_routing_by_domain() -> None:
    """No seen expert is best everywhere, and every domain has one that is nearly always right."""
    seen = [expert for expert in profile("sandbox").pool.experts if expert.seen]
    best = {domain: max(seen, key=lambda expert: expert.skill[domain]) for domain in seen[0].skill}
    assert len({expert.name for expert in best.values()}) == 4
    assert all(expert.skill[domain] >= 0.9 for domain, expert in best.items())


@pytest.mark.parametrize("name", ["paper-qwen", "paper-llama"])
def test_the_paper_profiles_hold_the_papers_numbers(name: str) -> None:
    params = profile(name)
    assert params.ingest.sizes.train == 7000
    assert params.ingest.sizes.test == 500
    assert set(params.ingest.source.test_split) == set(DATASETS)
    assert (params.episode.max_calls, params.episode.turn_tokens, params.episode.reply_tokens) == (4, 1024, 600)
    assert params.episode.prompt_tokens + params.episode.response_tokens == 4096
    ppo = params.train.ppo
    assert (ppo.steps, ppo.questions, ppo.mini_batch, ppo.micro_batch) == (224, 64, 32, 8)
    assert (ppo.learning_rate, ppo.critic_learning_rate, ppo.kl, ppo.entropy) == (1e-6, 1e-5, 1e-3, 1e-3)
    assert (ppo.clip, ppo.value_clip, ppo.temperature, ppo.top_p) == (0.2, 0.5, 1.0, 0.95)
    prices = {candidate.name: candidate.price for candidate in params.pool.candidates}
    assert prices["LLaMA-3.1-70B-Instruct"] == 0.88
    assert sorted(prices.values()) == [0.18, 0.18, 0.20, 0.30, 0.80, 0.88, 1.20, 1.80]


def test_using_a_profile_copies_it_and_shows_what_changes(folder: Path) -> None:
    assert use_profile(folder, "sandbox")
    assert use_profile(folder, "sandbox") == []
    changed = use_profile(folder, "smoke")
    assert "-profile_name: sandbox" in changed
    assert "+profile_name: smoke" in changed
    assert (folder / "params.yaml").read_bytes() == (folder / "infra/profiles/smoke.yaml").read_bytes()
    assert "profile_name: sandbox" in (folder / ".pointsman/params.before.yaml").read_text()


def test_an_unknown_profile_is_refused_with_the_list(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="local, paper-llama, paper-qwen, sandbox, smoke"):
        use_profile(folder, "gigantic")


def test_a_profile_that_does_not_parse_leaves_params_yaml_alone(folder: Path) -> None:
    use_profile(folder, "sandbox")
    (folder / "infra/profiles/broken.yaml").write_text("profile_name: broken\nsurprise: 1\n")
    with pytest.raises(ConfigurationError, match="surprise: unknown key"):
        use_profile(folder, "broken")
    assert load_params(folder / "params.yaml").profile_name == "sandbox"


@pytest.mark.parametrize("name", ["sandbox", "smoke"])
def test_the_tiny_policy_can_read_every_simulated_expert_s_name(name: str) -> None:
    """Its tokenizer spells other names letter by letter, and a policy of this size cannot copy those."""
    pool = profile(name).pool

    assert {expert.name for expert in pool.experts} <= set(CANDIDATE_NAMES)
