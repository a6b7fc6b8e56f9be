"""What is new between two looks: instances, use that nears a limit, changed limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cross_instance.rules.operations import (
    InstanceState,
    Instant,
    Kind,
    LearnedState,
    LimitState,
    NodeState,
    Source,
    Workload,
    World,
)
from cross_instance.watching.sights import Sights, label_of, usage_of

MINUTE = 60_000_000


def node(used: int = 0, amount: int = 100, name: str = "openai/default", period: int = MINUTE) -> NodeState:
    limit = LimitState(
        node=name, kind=Kind.REQUESTS, amount=amount, burst=10, period=period, available=10, source=Source.TOLD
    )
    return NodeState(
        node=name,
        limits=(limit,),
        waiting=0,
        held=0,
        ghosts=0,
        paused_until=0,
        epochs=(0, 0, 0),
        used=used,
        patterns=(),
        flows=(),
        notices=(),
    )


def instance(name: str, incarnation: int = 1) -> InstanceState:
    return InstanceState(
        incarnation=incarnation,
        instance_id=name,
        pid=1,
        machine="m",
        host="h",
        session_id="",
        cwd="",
        version="",
        joined_at=0,
        beat_at=0,
        workload=Workload(),
        held=0,
        waiting=0,
        heard_at=0,
        broadcast_at=0,
    )


def world(*nodes: NodeState, there: tuple[InstanceState, ...] = ()) -> World:
    return World(at=Instant(0, 0), instances=there, nodes=nodes)


def kinds(news: list[Any]) -> list[tuple[str, Any]]:
    return [(kind, next(iter(fields.values()))) for kind, _, fields in news]


def test_who_comes_and_goes_is_told_and_who_joins_anew_is_not() -> None:
    sights = Sights()
    assert sights.look(world(there=(instance("a"),))) == []
    assert kinds(sights.look(world(there=(instance("b", 2), instance("a"))))) == [("instance-connected", "b")]
    assert sights.look(world(there=(instance("b", 7), instance("a")))) == []
    assert kinds(sights.look(world(there=(instance("b", 7),)))) == [("instance-disconnected", "a")]


def test_a_warning_comes_once_until_the_use_fell_below_seven_tenths() -> None:
    sights = Sights()
    told = [len(sights.look(world(node(used)))) for used in (79, 80, 95, 71, 85, 70, 69, 79, 80, 100)]
    assert told == [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]


def test_a_warning_names_account_and_usage() -> None:
    ((kind, message, fields),) = Sights().look(world(node(90, name="openai/batch")))
    assert (kind, fields) == (
        "rate-limit-warning",
        {"provider": "openai/batch", "account": "openai/batch", "usage": 0.9},
    )
    assert message == "openai/batch has used 90% of its requests per minute"


def test_only_whole_accounts_are_warned_of() -> None:
    assert Sights().look(world(node(100, name="openai/default#gpt-*"), node(100, name=""))) == []


def test_a_changed_limit_is_told_with_both_figures() -> None:
    sights = Sights()
    sights.look(world(node(amount=500), node(amount=50, name="openai/default#gpt-*")))
    news = sights.look(world(node(amount=450), node(amount=50, name="openai/default#gpt-*")))
    assert [message for _, message, _ in news] == ["Reduced requests per minute from 500 to 450 (openai, told)"]
    (again,) = sights.look(world(node(amount=900, period=2 * MINUTE), node(amount=60, name="openai/default#gpt-*")))
    assert again[1] == "Raised requests per minute from 50 to 60 (openai gpt-*, told)"


@pytest.mark.parametrize(
    ("epochs", "seconds", "estimate", "is_told"),
    [
        ((1, 1, 1), 5, 0, True),
        ((0, 0, 0), 5, 0, False),  # it only grew
        ((2, 0, 0), 5, 0, False),  # what held before the second one is not known
        ((1, 0, 0), 70, 0, False),  # whoever looked before has told it
        ((1, 0, 0), 5, 440_000, False),  # it began with what was known of an earlier boot
    ],
)
def test_a_limit_that_a_first_429_has_cut_before_the_first_look_is_told(
    epochs: tuple[int, int, int], seconds: int, estimate: int, is_told: bool
) -> None:
    changed = 10 * MINUTE - seconds * MINUTE // 60
    learned = LearnedState(rate=450_000, started=500_000, estimate=estimate, changed_at=changed)
    cut = msgspec.structs.replace(node(amount=450), epochs=epochs, learned=learned)
    sights = Sights()
    seen = msgspec.structs.replace(world(cut), at=Instant(0, 10 * MINUTE))
    told = ["Reduced requests per minute from 500 to 450 (openai, told)"] if is_told else []
    assert [message for _, message, _ in sights.look(seen)] == told
    assert sights.look(seen) == []


def test_labels_and_use() -> None:
    assert (label_of("openai/default"), label_of("openai/b#gpt-*")) == ("openai", "openai/b gpt-*")
    seen = world(node(7), node(3, name="openai/default#gpt-*"), node(9, name=""))
    assert usage_of(seen) == {"openai/default": (7, 100)}
