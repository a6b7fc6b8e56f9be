"""`adaptive_rate` shows what the store has learned, and reports calls that were made without a permit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from cross_instance import Runtime, adaptive_rate, coordinator

PROVIDERS = {"openai": {"requestsPerMinute": 500, "models": {"o3*": {"requestsPerMinute": 60}}}}


def registered(project: Path, **settings: object) -> Runtime:
    config = {"crossInstance": {"providers": PROVIDERS, **settings}}
    (project / ".pi" / "config.json").write_text(json.dumps(config))
    coordinator.register_instance("session", project)
    runtime = coordinator.this_process.runtime
    assert runtime is not None
    return runtime


def test_unregistered_nothing_is_known_and_nothing_raises(project: Path) -> None:
    assert adaptive_rate.get_learned_limit("openai", "gpt-4o") is None
    assert adaptive_rate.get_adaptive_state() == {}
    assert not adaptive_rate.record_429("openai", "gpt-4o")
    assert not adaptive_rate.record_success("openai", "gpt-4o")
    assert adaptive_rate.reset_learned_limit("openai") == adaptive_rate.reset_all_learned_limits() == ()
    assert adaptive_rate.format_adaptive_summary() == "Nothing was learned."
    assert adaptive_rate.get_effective_limit("openai", "gpt-4o") == 500
    seen = adaptive_rate.get_predictive_analysis("OpenAI", "gpt-4o")
    nothing = dict.fromkeys(("share_10_min", "share_30_min", "share_60_min", "predicted_429_probability"), 0.0)
    switches = {"enabled": False, "should_proactively_throttle": False}
    assert asdict(seen) == {"provider": "openai", "model": "gpt-4o", **nothing, "proactive_cut": 0.0, **switches}


def test_a_429_without_a_permit_teaches_all_instances(project: Path) -> None:
    registered(project)
    assert adaptive_rate.record_success("openai", "gpt-4o")
    assert adaptive_rate.get_learned_limit("openai", "gpt-4o") is None, (
        "a configured limit that meets no 429 is the limit"
    )
    assert adaptive_rate.record_429("OpenAI", "gpt-4o", headers={"retry-after": "0"})
    learned = adaptive_rate.get_learned_limit("openai", "gpt-4o")
    assert learned is not None
    assert (learned.provider, learned.account, learned.pattern) == ("openai", "default", "")
    assert (learned.total_requests, learned.total_429_count, learned.original_requests_per_minute) == (2, 1, 500.0)
    assert learned.requests_per_minute < 500
    assert learned.notes == "a 429"
    assert learned.to_dict()["total429Count"] == 1
    assert adaptive_rate.get_adaptive_state() == {"openai/default": learned}
    assert adaptive_rate.get_effective_limit("openai", "gpt-4o", preset_limit=300) == learned.requests_per_minute
    assert "2 granted, 1 of them met 429" in adaptive_rate.format_adaptive_summary()


def test_a_report_that_gets_no_permit_says_so(project: Path) -> None:
    registered(project)
    assert adaptive_rate.record_429("openai", "gpt-4o", headers={"retry-after": "30"})
    assert not adaptive_rate.record_429("openai", "gpt-4o"), "the account is paused: it is an echo"
    learned = adaptive_rate.get_learned_limit("openai", "gpt-4o")
    assert learned is not None
    assert learned.total_429_count == 1


def test_the_group_that_decides_for_a_model_is_told_and_reset(project: Path) -> None:
    registered(project)
    assert adaptive_rate.record_429("openai", "o3-mini", headers={"retry-after": "0"})
    group = adaptive_rate.get_learned_limit("openai", "o3-mini")
    assert group is not None
    assert (group.pattern, group.original_requests_per_minute) == ("o3*", 60.0)
    assert adaptive_rate.get_learned_limit("openai", "gpt-4o") is None
    assert adaptive_rate.reset_learned_limit("openai", "gpt-4o") == ()
    assert adaptive_rate.reset_learned_limit("openai", "o3-mini") == ("openai/default#o3*",)
    assert adaptive_rate.get_learned_limit("openai", "o3-mini") is None
    assert adaptive_rate.record_429("openai", "o3-mini", headers={"retry-after": "0"}, account="batch")
    assert adaptive_rate.reset_learned_limit("openai", "o3-mini") == ()
    assert adaptive_rate.reset_learned_limit("openai", "o3-mini", account="batch") == ("openai/batch#o3*",)
    assert adaptive_rate.record_success("anthropic", "claude"), "a preset is learned from the first request on"
    assert adaptive_rate.reset_all_learned_limits() == ("anthropic/default",)


def test_a_preset_that_nothing_is_known_beyond_gives_way(project: Path) -> None:
    registered(project)
    assert adaptive_rate.get_effective_limit("anthropic", "claude", preset_limit=7) == 7
    assert adaptive_rate.get_effective_limit("anthropic", "claude") == 50
    assert adaptive_rate.get_effective_limit("openai", "gpt-4o", preset_limit=7) == 500


@pytest.mark.parametrize("predictive", [False, True])
def test_prediction_counts_always_and_cuts_where_it_is_switched_on(project: Path, predictive: bool) -> None:
    registered(project, adaptiveRateControl={"predictive": predictive})
    assert adaptive_rate.record_429("openai", "gpt-4o", headers={"retry-after": "0"})
    seen = adaptive_rate.get_predictive_analysis("openai", "gpt-4o")
    assert (seen.share_10_min, seen.share_30_min, seen.share_60_min) == (1.0, 1.0, 1.0)
    assert (seen.predicted_429_probability, seen.proactive_cut) == (1.0, 0.2)
    assert adaptive_rate.analyze_429_probability("openai", "gpt-4o") == 1.0
    assert seen.enabled is predictive
    assert adaptive_rate.should_proactively_throttle("openai", "gpt-4o") is predictive
    assert adaptive_rate.get_predictive_concurrency("openai", "gpt-4o", 10) == (8 if predictive else 10)
    assert adaptive_rate.get_predictive_concurrency("openai", "gpt-4o", 1) == 1
    assert seen.to_dict()["predicted429Probability"] == 1.0
    assert adaptive_rate.get_predictive_concurrency("anthropic", "claude", 10) == 10
