"""The guide's outputs, character by character, and what stands behind them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Runtime
from cross_instance.rules.operations import (
    MINUTE,
    SECOND,
    FlowState,
    InstanceState,
    Instant,
    Kind,
    LimitState,
    NodeState,
    Source,
    Workload,
    World,
)
from cross_instance.status import (
    Status,
    format_instance_status,
    format_model_limits,
    instance_status,
    limits_of,
    place_of,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = Instant(mono=5_000_000, wall=1_767_225_600_000_000)


def instance(incarnation: int, held: int, beat_at: int = NOW.wall) -> InstanceState:
    return InstanceState(
        incarnation=incarnation,
        instance_id=f"instance-{incarnation}",
        pid=100 + incarnation,
        machine="here",
        host="here",
        session_id="",
        cwd="/",
        version="1",
        joined_at=0,
        beat_at=beat_at,
        workload=Workload(),
        held=held,
        waiting=0,
    )


def limit(node: str, kind: Kind, amount: int, burst: int, available: int, source: Source) -> LimitState:
    return LimitState(node, kind, amount, burst, MINUTE, source, available)


def account(name: str, requests: tuple[int, int, int], *used: int, source: Source = Source.CONFIGURED) -> NodeState:
    return NodeState(
        node=name,
        limits=(limit(name, Kind.REQUESTS, *requests, source),),
        waiting=0,
        held=0,
        ghosts=0,
        paused_until=0,
        epochs=(0, 0, 0),
        used=sum(used),
        patterns=(),
        flows=tuple(FlowState(place + 1, 1, 0, count) for place, count in enumerate(used)),
    )


GUIDE = World(
    at=NOW,
    instances=(instance(1, held=2), instance(2, held=1)),
    nodes=(
        account("anthropic/default", (50, 25, 20), 5, 3),
        account("openai/default", (500, 100, 80), 120, 80),
    ),
)


def test_pi_instance_status_prints_as_in_the_guide() -> None:
    assert (
        format_instance_status(GUIDE)
        == """\
Instance: instance-1
  Status: Connected
  Active requests: 2
  Provider usage:
    openai: 120/500 requests (24%)
    anthropic: 5/50 requests (10%)

Instance: instance-2
  Status: Connected
  Active requests: 1
  Provider usage:
    openai: 80/500 requests (16%)
    anthropic: 3/50 requests (6%)"""
    )


def test_pi_model_limits_prints_as_in_the_guide() -> None:
    world = World(
        at=NOW,
        instances=(),
        nodes=(
            account("anthropic/default", (50, 25, 20), 5),
            account("openai/default", (500, 100, 80), 120),
        ),
    )
    assert (
        format_model_limits(world)
        == """\
Provider: openai
  Requests/minute: 500
  Burst: 100
  Current usage: 120/500

Provider: anthropic
  Requests/minute: 50
  Burst: 25
  Current usage: 5/50"""
    )
    assert format_model_limits(world, "anthropic").startswith("Provider: anthropic\n")


def test_the_structure_of_the_guides_example_4() -> None:
    world = World(at=NOW, instances=(instance(1, held=2),), nodes=(account("openai/default", (500, 100, 80), 120),))
    status = Status("instance-1", 1, True, "a folder", None, (), world)
    assert instance_status(status) == {
        "instanceId": "instance-1",
        "coordinatorConnected": True,
        "providers": {"openai": {"requestsPerMinute": 500, "currentUsage": 120, "burstAvailable": 80}},
        "activeRequests": 2,
    }


def test_without_the_store_nothing_is_claimed() -> None:
    status = Status("instance-1", 1, True, "a folder", "gone fishing", (), None)
    assert instance_status(status) == {
        "instanceId": "instance-1",
        "coordinatorConnected": False,
        "providers": {},
        "activeRequests": 0,
    }


def test_a_silent_instance_is_not_called_connected() -> None:
    world = World(at=NOW, instances=(instance(1, 0, beat_at=NOW.wall - 75 * SECOND),), nodes=())
    assert format_instance_status(world) == "Instance: instance-1\n  Status: Silent for 75 s\n  Active requests: 0"


def test_nobody_there_is_said() -> None:
    assert format_instance_status(World(at=NOW, instances=(), nodes=())) == "No instance is connected."
    assert format_model_limits(World(at=NOW, instances=(), nodes=())) == "No provider is in use."


@pytest.mark.parametrize("source", [source for source in Source if source is not Source.CONFIGURED])
def test_text_says_where_a_limit_comes_from_unless_it_was_configured(source: Source) -> None:
    world = World(at=NOW, instances=(), nodes=(account("openai/default", (500, 100, 80), source=source),))
    assert format_model_limits(world).endswith(f"  Current usage: 0/500\n  Source: {source.value}")


def test_accounts_and_models_are_told_apart() -> None:
    group = account("openai/team-b#gpt-4o", (60, 6, 6))
    tokens = limit("openai/team-b", Kind.TOKENS, 30_000, 30_000, 9, Source.TOLD)
    node = account("openai/team-b", (500, 100, 80), 7)
    node = NodeState(
        **{name: getattr(node, name) for name in node.__struct_fields__} | {"limits": (*node.limits, tokens)}
    )
    world = World(at=NOW, instances=(instance(1, 0),), nodes=(node, group))
    assert (
        format_model_limits(world)
        == """\
Provider: openai/team-b
  Requests/minute: 500
  Burst: 100
  Current usage: 7/500
  Tokens/minute: 30000 (told)
  Model gpt-4o:
    Requests/minute: 60
    Burst: 6"""
    )
    assert "    openai/team-b: 7/500 requests (1%)" in format_instance_status(world)


@pytest.mark.parametrize(
    ("node", "place"),
    [
        ("", ("", "", "")),
        ("openai/default", ("openai", "default", "")),
        ("openai/team/b#gpt-*#x", ("openai", "team/b", "gpt-*#x")),
    ],
)
def test_a_nodes_name_has_three_parts(node: str, place: tuple[str, str, str]) -> None:
    assert tuple(place_of(node)) == place


def test_debts_are_no_burst() -> None:
    world = World(at=NOW, instances=(instance(1, 0),), nodes=(account("openai/default", (500, 100, -30), 120),))
    providers = instance_status(Status("instance-1", 1, True, "", None, (), world))["providers"]
    assert providers["openai"]["burstAvailable"] == 0
    assert limits_of(world)[0].available == -30


# --- with settings ---------------------------------------------------------------------------------------------


def test_before_anybody_runs_the_settings_are_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"openai": {"requestsPerMinute": 1_000, "burst": 200}})
    assert (
        format_model_limits(None, settings=settings)
        == "Provider: openai\n  Requests/minute: 1000\n  Burst: 200\n  Current usage: 0/1000"
    )


def test_without_any_settings_the_presets_are_told(tmp_path: Path) -> None:
    text = format_model_limits(None, settings=settings_in(tmp_path))
    assert [line for line in text.splitlines() if line.startswith("Provider")] == [
        "Provider: openai",
        "Provider: anthropic",
        "Provider: deepseek",
        "Provider: gemini",
    ]
    assert text.count("Source: preset") == 4


def test_a_provider_that_is_asked_for_is_told_even_if_it_is_a_guess(tmp_path: Path) -> None:
    text = format_model_limits(None, "acme", settings_in(tmp_path))
    assert text.splitlines()[:1] == ["Provider: acme"]
    assert "Source: guess" in text
    assert "Concurrency: 2 (guess)" in text


def test_limits_in_force_win_over_planned_ones(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"openai": {"requestsPerMinute": 9}, "acme": {"requestsPerMinute": 8}})
    limits = {limit.provider: limit for limit in limits_of(GUIDE, settings) if limit.kind == "requests"}
    assert {name: (limit.amount, limit.used) for name, limit in limits.items()} == {
        "openai": (500, 200),
        "anthropic": (50, 8),
        "acme": (8, 0),
    }


def test_the_whole_status_is_ready_for_json(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, total_max_llm=3)
    with Runtime("one", store=Timeline(), settings=settings) as runtime, runtime.permit("openai", "gpt-4o"):
        status = runtime.status()
        limits = runtime.limits()
    told: dict[str, Any] = json.loads(json.dumps(status.to_dict()))
    assert (told["instanceId"], told["connected"], told["degraded"]) == ("one", True, None)
    assert told["world"]["instances"][0]["held"] == 1
    assert told["world"]["nodes"][0]["pausedUntil"] == 0
    cluster = next(limit for limit in limits if not limit.provider)
    assert (cluster.kind, cluster.amount, cluster.period) == ("concurrency", 3, 0.0)
