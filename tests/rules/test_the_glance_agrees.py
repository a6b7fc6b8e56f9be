"""`rules.uncontended` decides exactly what the general path decides, or nothing: on random runs, record by record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from cross_instance.rules.apply import AT_A_GLANCE, apply, decide
from cross_instance.rules.limits import refill
from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Costs,
    Granted,
    Instant,
    Join,
    Joined,
    Kind,
    Learning,
    LimitSpec,
    Operation,
    Outcome,
    Refused,
    Result,
    Settle,
    Signals,
    Source,
)
from cross_instance.rules.records import decode_node, encode
from cross_instance.rules.tables import NODE
from cross_instance.testing import DictTables, FakeClock
from cross_instance.testing.clock import START_OF_2026
from cross_instance.testing.conformance import Elapse, random_operations
from cross_instance.testing.conformance.learning_storm import learning_operations

if TYPE_CHECKING:
    from collections.abc import Callable


def copied(tables: DictTables) -> DictTables:
    copy = DictTables()
    for key, value in tables.values.items():
        copy.put(key, value)
    return copy


def decided_in_general(tables: DictTables, op: Operation[Any], at: Instant) -> Result | None:
    try:
        result: Result = decide(tables, op, at)
    except ValueError:
        return None
    return result


def decided(tables: DictTables, op: Operation[Any], at: Instant) -> Result | None:
    tables.begin()
    try:
        result: Result = apply(tables, op, at)
    except ValueError:
        tables.undo()
        return None
    return result


def present(tables: DictTables, at: Instant) -> dict[bytes, bytes]:
    """What the tables hold, with every limit refilled: a glance leaves those alone that it need not touch."""
    values = dict(tables.values)
    for key, _ in tables.scan(NODE):
        node = decode_node(values[key])
        for limit in node.limits:
            if limit.at < at.mono:
                refill(limit, at)
        values[key] = encode(node)
    return values


class Both:
    """Decides every operation on both paths, and compares answers and records."""

    def __init__(self) -> None:
        self.tables, self.clock, self.glances = DictTables(), FakeClock(), 0

    def run(self, op: Operation[Any]) -> Result | None:
        glance = AT_A_GLANCE.get(type(op))
        general = copied(self.tables) if glance else None
        self.glances += glance is not None and glance(copied(self.tables), op, self.clock()) is not None
        result = decided(self.tables, op, self.clock())
        if general is not None:
            assert decided_in_general(general, op, self.clock()) == result
            assert result is None or present(general, self.clock()) == present(self.tables, self.clock())
        return result


@pytest.mark.parametrize("operations", [random_operations, learning_operations])
@pytest.mark.parametrize("seed", range(8))
def test_both_paths_agree_in_a_crowd(seed: int, operations: Callable[[int, int], Any]) -> None:
    both, storm = Both(), operations(seed, 500)
    step = next(storm)
    with contextlib.suppress(StopIteration):
        while True:
            result = None
            if isinstance(step, Elapse):
                both.clock.advance(step.us)
            else:
                result = both.run(step)
            step = storm.send(result)
    assert both.glances > 0


def entered(*more: LimitSpec) -> tuple[Both, int]:
    both = Both()
    joined = both.run(Join("a", "nonce", 1, "here", "here"))
    assert isinstance(joined, Joined)
    limits = (
        LimitSpec(Kind.REQUESTS, 600, 20),
        LimitSpec(Kind.TOKENS, 60_000, 10_000),
        LimitSpec(Kind.CONCURRENCY, 5),
        *more,
    )
    both.run(Configure(joined.incarnation, "openai/default", AccountSpec(limits)))
    return both, joined.incarnation


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": -1},
        {"seq": 1 << 53},
        {"timeout": -1},
        {"timeout": 1 << 53},
        {"priority": -1},
        {"priority": 5},
        {"costs": Costs(tokens=-1)},
        {"costs": Costs(input_tokens=1 << 30)},
    ],
)
def test_both_paths_refuse_an_acquire_that_cannot_be_stored(wrong: dict[str, Any]) -> None:
    both, incarnation = entered()
    right = Acquire(incarnation, 1, "openai/default", revision=1)
    assert both.run(msgspec.structs.replace(right, **wrong)) is None
    assert isinstance(both.run(right), Granted)


@pytest.mark.parametrize(
    "wrong", [{"delay": -1}, {"delay": FOREVER + 1}, {"draw": -1}, {"draw": 1 << 32}, {"usage": Costs(tokens=1 << 30)}]
)
def test_both_paths_refuse_a_settle_that_cannot_be_stored(wrong: dict[str, Any]) -> None:
    both, incarnation = entered()
    both.run(Acquire(incarnation, 1, "openai/default", revision=1))
    right = Settle(incarnation, 1)
    assert both.run(msgspec.structs.replace(right, **wrong)) is None
    assert both.run(right) is not None


@pytest.mark.parametrize("early", [1, 0, -1])
def test_both_paths_agree_when_a_pause_ends(early: int) -> None:
    both, incarnation = entered()
    both.run(Acquire(incarnation, 1, "openai/default", revision=1))
    both.run(Settle(incarnation, 1, outcome=Outcome.OVERLOADED, signals=Signals(retry_after=SECOND)))
    both.clock.advance(SECOND - early)
    answer = both.run(Acquire(incarnation, 2, "openai/default", revision=1, timeout=0))
    assert isinstance(answer, Refused if early > 0 else Granted)


@pytest.mark.parametrize("before_the_end", [SECOND + 1, SECOND, SECOND - 1, 1, -1])
def test_both_paths_agree_when_the_guard_of_a_window_shrinks(before_the_end: int) -> None:
    """Whether the window has closed is told by the guard until now, though the request that ends took none of it."""
    both, incarnation = entered(LimitSpec(Kind.REQUESTS_DAY, 9, 9, DAY, anchor=START_OF_2026))
    for seq in (1, 2):
        both.run(Acquire(incarnation, seq, "openai/default", revision=1))
    both.run(Settle(incarnation, 1, delay=SECOND))
    both.clock.advance(DAY - before_the_end)
    both.run(Settle(incarnation, 2))
    assert both.glances == 4


@pytest.mark.parametrize("source", [Source.GUESS, Source.PRESET, Source.CONFIGURED])
def test_both_paths_agree_where_the_last_slot_is_taken(source: Source) -> None:
    """Slots that may grow are the learner's business then."""
    both, incarnation = entered()
    limits = (LimitSpec(Kind.REQUESTS, 600, 20, source=Source.PRESET), LimitSpec(Kind.CONCURRENCY, 3, source=source))
    both.run(Configure(incarnation, "openai/default", AccountSpec(limits, learning=Learning())))
    for seq in (1, 2, 3):
        assert isinstance(both.run(Acquire(incarnation, seq, "openai/default", revision=1)), Granted)
    assert both.glances == (2 if source is Source.GUESS else 3)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300_000), st.integers(0, 400)), max_size=60))
def test_both_paths_agree_where_little_is_asked_for(steps: list[tuple[int, int, int]]) -> None:
    both, incarnation = entered()
    for seq, (choice, pause, tokens) in enumerate(steps, start=1):
        both.clock.advance(pause)
        costs = Costs(tokens=tokens)
        both.run(Acquire(incarnation, seq, "openai/default", revision=1, costs=costs, timeout=0))
        if choice:
            usage = Costs(tokens=tokens * choice // 2) if choice > 1 else None
            both.run(Settle(incarnation, max(1, seq - choice + 1), usage=usage, delay=pause // 100))
    assert both.glances >= min(len(steps), 1)
