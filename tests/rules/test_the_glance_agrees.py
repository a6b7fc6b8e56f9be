"""`rules.uncontended` decides exactly what the general path decides, or nothing: on random runs, record by record."""

from __future__ import annotations

from typing import Any

import pytest

from cross_instance.rules.apply import AT_A_GLANCE, RULES, apply
from cross_instance.rules.operations import Instant, Operation, Result
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


@pytest.mark.parametrize("seed", range(8))
def test_both_paths_give_the_same_answers_and_the_same_records(seed: int) -> None:
    tables, clock, glances = DictTables(), FakeClock(), 0
    storm = random_operations(seed, 500)
    step = next(storm)
    while True:
        result = None
        if isinstance(step, Elapse):
            clock.advance(step.us)
        else:
            glance = AT_A_GLANCE.get(type(step))
            general = copied(tables) if glance else None
            glances += glance is not None and glance(copied(tables), step, clock()) is not None
            result = decided(tables, step, clock())
            if general is not None:
                assert decided_in_general(general, step, clock()) == result
                assert result is None or general.values == tables.values
        try:
            step = storm.send(result)
        except StopIteration:
            break
    assert glances > 20
