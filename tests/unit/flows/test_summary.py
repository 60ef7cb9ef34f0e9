"""What a run came to, as a person reads it in Prefect."""

from __future__ import annotations

from flows.report import Outcome, finding, summary

RAN = [Outcome("train", ("train.seed: 7 -> 8",), "ran", 61.4), Outcome("evaluate", ("train runs first",), "ran", 9.0)]


def evaluation(low: float = 0.02) -> dict:
    def method(em: float) -> dict:
        return {"average": {"em": em, "em_low": em - 0.1, "em_high": em + 0.1, "f1": em, "cost": 3.21, "calls": 1.5}}

    router = {
        "best_baseline": "knn",
        "versus": {"knn": {"difference": 0.25, "low": low, "high": 0.4}},
        "synthetic": True,
    }
    return {"methods": {"knn": method(0.5), "router": method(0.75)}, "router": router, "confidence": 0.95}


def told(outcomes: list[Outcome], error: str | None = None, metrics: dict | None = None) -> str:
    metrics = {"evaluate": evaluation()} if metrics is None else metrics
    return summary(outcomes, metrics, profile="smoke", revision="abc+", error=error)


def test_a_run_says_what_it_did_why_and_what_the_router_came_to() -> None:
    text = told(RAN)
    assert text.startswith("# Up to date: train, evaluate in 70 s\n\nProfile `smoke`, commit `abc+`.")
    assert "answers **75.0%** (65.0% to 85.0%)" in text
    assert "**+25.0 points (+2.0 to +40.0)** against `knn`" in text
    assert "| train | ran | 61 | train.seed: 7 -\\> 8 |" in text
    assert text.index("| **router** | **0.750** | **0.650 to 0.850** |") < text.index("| knn | 0.500 |")
    assert "**Synthetic**" in text
    assert "95% bootstrap" in text


def test_a_lead_that_the_interval_does_not_show_is_not_claimed() -> None:
    assert "cannot be told apart" in finding(evaluation(low=-0.01))
    assert "cannot be told apart" not in finding(evaluation(low=0.01))


def test_a_failed_run_says_which_stage_its_message_and_the_way_out_and_shows_no_older_result() -> None:
    failed = [Outcome("ingest", ("it has not run yet",), "failed", 3.0), Outcome("train", ("it has not run yet",))]
    text = told(failed, "ingest: row 7 is odd; remove it")
    assert text.startswith("# ingest failed")
    assert "```\ningest: row 7 is odd; remove it\n```" in text
    assert "run it again" in text
    assert "`.pointsman/logs/ingest.log`" in text
    assert "| train | not run |" in text
    assert "router" not in text


def test_a_run_that_did_not_evaluate_marks_the_table_as_older() -> None:
    assert "## Methods, as evaluated last" in told(RAN[:1])
    assert "answers **" not in told(RAN[:1])


def test_a_run_with_nothing_to_do_says_so() -> None:
    assert told([], metrics={}) == "# Nothing was out of date\n\nProfile `smoke`, commit `abc+`."


def test_reasons_are_few_and_inert_in_markdown() -> None:
    reasons = ("stages/__init__.py is modified", "a|b is modified", "c", "d")
    assert "stages/\\_\\_init\\_\\_.py is modified; a\\|b is modified; and 2 more |" in told(
        [Outcome("train", reasons)]
    )
