"""What is stored says in which format it is: a newer value must not look like damage to an earlier version."""

from __future__ import annotations

from cross_instance.rules.operations import Kind, Priority, Source, TaskOutcome
from cross_instance.rules.records import FORMAT, State
from cross_instance.rules.task_records import Phase

STORED = {
    1: {
        Kind: ["requests", "requests_day", "tokens", "input_tokens", "output_tokens", "concurrency"],
        Source: ["configured", "told", "learned", "preset", "guess"],
        Priority: [0, 1, 2, 3, 4],
        State: [0, 1, 2, 3],
        Phase: [0, 1, 2, 3, 4],
        TaskOutcome: ["done", "retry", "failed", "released", "cancelled", "died"],
    }
}
"""The values of each enumeration that records hold, by format. A new value needs a new format, with a line here."""


def test_the_format_rises_with_every_value_that_records_may_hold() -> None:
    assert max(STORED) == FORMAT
    assert STORED[FORMAT] == {
        values: [value.value for value in values] for values in (Kind, Source, Priority, State, Phase, TaskOutcome)
    }
