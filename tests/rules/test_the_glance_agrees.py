"""`rules.uncontended` decides exactly what the general path decides, or nothing: on random runs, record by record."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cross_instance.rules.apply import AT_A_GLANCE, RULES, apply
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Costs,
    Instant,
    Join,
    Joined,
    Kind,
    LimitSpec,
    Operation,
    Result,
    Settle,
)
from cross_instance.testing import DictTables, FakeClock
from cross_instance.testing.conformance import Elapse, random_operations


def copied(tables: DictTables) -> DictTables:
    copy = DictTables()
    for key, value in tables.values.items():
        copy.put(key, value)
    return copy


def decided_in_general(tables: DictTables, op: Operation[Any], at: Instant) -> Result | None:
    try:
        return RULES[type(op)](tables, op, at)
    except ValueError:
        return None


def decided(tables: DictTables, op: Operation[Any], at: Instant) -> Result | None:
    tables.begin()
    try:
        result: Result = apply(tables, op, at)
    except ValueError:
        tables.undo()
        return None
    return result


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
            assert result is None or general.values == self.tables.values
        return result


@pytest.mark.parametrize("seed", range(8))
def test_both_paths_agree_in_a_crowd(seed: int) -> None:
    both, storm = Both(), random_operations(seed, 500)
    step = next(storm)
    with contextlib.suppress(StopIteration):
        while True:
            result = None
            if isinstance(step, Elapse):
                both.clock.advance(step.us)
            else:
                result = both.run(step)
            step = storm.send(result)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300_000), st.integers(0, 400)), max_size=60))
def test_both_paths_agree_where_little_is_asked_for(steps: list[tuple[int, int, int]]) -> None:
    both = Both()
    joined = both.run(Join("a", "nonce", 1, "here", "here"))
    assert isinstance(joined, Joined)
    limits = (
        LimitSpec(Kind.REQUESTS, 600, 20),
        LimitSpec(Kind.TOKENS, 60_000, 10_000),
        LimitSpec(Kind.CONCURRENCY, 5),
    )
    both.run(Configure(joined.incarnation, "openai/default", AccountSpec(limits)))
    for seq, (choice, pause, tokens) in enumerate(steps, start=1):
        both.clock.advance(pause)
        costs = Costs(tokens=tokens)
        both.run(Acquire(joined.incarnation, seq, "openai/default", revision=1, costs=costs, timeout=0))
        if choice:
            usage = Costs(tokens=tokens * choice // 2) if choice > 1 else None
            both.run(Settle(joined.incarnation, max(1, seq - choice + 1), usage=usage, delay=pause // 100))
    assert both.glances >= min(len(steps), 1)
