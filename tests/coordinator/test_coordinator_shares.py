"""Shares of several instances, and the models that they use."""

from __future__ import annotations

import pytest
from tests.coordinator.conftest import Join

from cross_instance.coordinator import Coordinator, ModelUsage
from cross_instance.rules.operations import Heartbeat, Workload


def busy(*instances: Coordinator) -> list[Coordinator]:
    for one in instances:
        one.set_active_model("openai", "gpt-4o")
    return list(instances)


def limits(instances: list[Coordinator]) -> list[int]:
    return [one.get_my_parallel_limit() for one in instances]


def test_shares_add_up_and_the_rest_goes_in_the_order_of_joining(join: Join) -> None:
    instances = busy(*(join(name, total_max_llm=8) for name in ("c", "a", "b")))
    assert limits(instances) == [3, 3, 2]
    instances.pop(0).unregister_instance()
    assert limits(instances) == [4, 4]


def test_who_has_nothing_to_do_takes_no_share_from_the_others(join: Join) -> None:
    worker, idle = join("a"), join("b")
    busy(worker)
    assert limits([worker, idle]) == [6, 3]
    worker.clear_all_active_models()
    worker.update_workload_info(1)
    assert limits([worker, idle]) == [6, 3]
    worker.update_workload_info(0)
    with worker.runtime.permit("acme", "m-1", timeout=5):  # type: ignore[union-attr]
        assert limits([idle]) == [3]
    assert limits([idle]) == [6]


def test_nobody_gets_less_than_one(join: Join) -> None:
    assert limits(busy(*(join(name, total_max_llm=2) for name in "abc"))) == [1, 1, 1]


def test_what_the_cluster_enforces_is_never_exceeded(join: Join) -> None:
    generous, strict = busy(join("a", total_max_llm=10), join("b", total_max_llm=4))
    assert limits([generous, strict]) == [2, 2]


def test_shares_by_demand(join: Join) -> None:
    one, two, three = (join(name, total_max_llm=9) for name in "abc")
    assert [one.get_dynamic_parallel_limit() for one in busy(one, two, three)] == [3, 3, 3]
    for instance in (one, two, three):
        instance.clear_all_active_models()
    one.update_workload_info(1)
    two.update_workload_info(20)
    three.update_workload_info(20)
    assert [
        one.get_dynamic_parallel_limit(1),
        two.get_dynamic_parallel_limit(20),
        three.get_dynamic_parallel_limit(20),
    ] == [1, 4, 4]
    one.update_workload_info(0)
    assert one.get_dynamic_parallel_limit(0) == 1
    assert two.get_dynamic_parallel_limit(20) == 5


def test_what_runs_is_part_of_the_demand(join: Join) -> None:
    one, two = (join(name, total_max_llm=4) for name in "ab")
    two.update_workload_info(9)
    with one.runtime.permit("acme", "m-1", timeout=5):  # type: ignore[union-attr]
        assert one.get_dynamic_parallel_limit(0) == 1
        assert two.get_dynamic_parallel_limit(9) == 3
    assert two.get_dynamic_parallel_limit(9) == 4


def test_models_are_counted_by_pattern_and_without_case(join: Join) -> None:
    one, two = join("a"), join("b")
    one.set_active_model("Anthropic", "Claude-Sonnet-4")
    two.set_active_model("anthropic", "claude-sonnet-4-20250514")
    assert one.get_active_instances_for_model("ANTHROPIC", "claude-sonnet-4") == 2
    assert one.get_active_instances_for_model("anthropic", "claude-opus-4") == 1
    assert one.get_active_instances_for_model("openai", "claude-sonnet-4") == 1
    assert [c.get_model_parallel_limit("anthropic", "claude-sonnet-4", 5) for c in (one, two)] == [3, 2]
    assert one.get_model_parallel_limit("openai", "gpt-4o", 5) == 5
    assert one.get_model_parallel_limit("anthropic", "claude-sonnet-4", 1) == 1


def test_the_summary_of_models(join: Join) -> None:
    one, two = join("a"), join("b")
    one.set_active_model("openai", "gpt-4o")
    one.set_active_model("gemini", "pro")
    two.set_active_model("openai", "GPT-4o")
    summary = two.get_model_usage_summary()
    assert summary.models == (ModelUsage("gemini", "pro", 1), ModelUsage("openai", "gpt-4o", 2))
    assert summary.to_dict()["models"][1] == {"provider": "openai", "model": "gpt-4o", "instanceCount": 2}
    assert [info["instanceId"] for info in summary.to_dict()["instances"]] == ["a", "b"]


def test_setting_a_model_twice_keeps_since_when(join: Join) -> None:
    one = join("a")
    one.set_active_model("openai", "gpt-4o")
    (before,) = one.get_active_instances()[0].active_models
    one.set_active_model("OpenAI", "gpt-4o")
    assert one.get_active_instances()[0].active_models == (before,)
    one.set_active_model("openai", "o3")
    one.clear_active_model("OPENAI", "GPT-4o")
    assert [used.model for used in one.get_active_instances()[0].active_models] == ["o3"]


def test_a_name_that_cannot_be_stored_changes_nothing(join: Join) -> None:
    one = join("a")
    one.set_active_model("openai", "gpt-4o")
    for name in ("", "m" * 201, "a\0b"):
        with pytest.raises(ValueError, match="model"):
            one.set_active_model("openai", name)
    assert [used.model for used in one.get_active_instances()[0].active_models] == ["gpt-4o"]
    one.update_workload_info(2)


def test_an_instance_that_says_nothing_of_itself_is_seen_all_the_same(join: Join) -> None:
    """Whoever sends the operations by itself is one of them."""
    one = join("a")
    runtime = one.runtime
    assert runtime is not None
    runtime.run(Heartbeat(runtime.incarnation, Workload(pending=7)))
    assert join("b").get_active_instances()[0].pending_task_count == 7


def test_every_model_pattern_of_the_reference() -> None:
    one = Coordinator()
    for pattern, model, fits in (
        ("claude-sonnet-4", "claude-sonnet-4-20250514", True),
        ("claude-sonnet-4-20250514", "claude-sonnet-4", True),
        ("gpt-*", "GPT-4o", True),
        ("gpt-?o", "gpt-4o", True),
        ("gpt-4.1", "gpt-4x1", False),
        ("claude", "gpt-4o", False),
    ):
        assert one.matches_model_pattern(pattern, model) is fits, (pattern, model)
