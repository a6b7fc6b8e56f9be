"""The state machines of the rules, with a real store beside the model: every answer is the same, and so is the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.rules.test_law_machine import Laws
from tests.rules.test_tasks_machine import Tasks
from tests.stores.redis_scripts import Scripted
from tests.stores.redis_server import serving

from cross_instance.rules.operations import Instant, ListTasks, Operation, Snapshot, TaskSnapshot
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.testing.conformance.mirror import Deciding


class Beside(Deciding, Protocol):
    """What a machine is held against."""

    def close(self) -> None: ...


Open = Callable[[Callable[[], Instant]], Beside]
EXAMPLES = settings(settings.get_profile("ci"), max_examples=8, phases=[Phase.generate])


class LawsBeside(Laws):
    """Whatever instances may do, done to the model and to a store at the same instants."""

    def __init__(self, open_store: Open) -> None:
        self.beside = open_store(lambda: self.clock())
        super().__init__()

    def run(self, op: Operation[Any]) -> Any:
        return alike(super().run(op), self.beside.run(op))

    def teardown(self) -> None:
        with closing(self.beside):
            self.run(Snapshot())
            super().teardown()
            self.run(Snapshot())


class TasksBeside(Tasks):
    """Whatever may befall tasks, but for what only a disk knows: of two commits only the first, and a power cut."""

    def __init__(self, open_store: Open) -> None:
        self.beside = open_store(lambda: self.clock())
        super().__init__()

    def run(self, op: Operation[Any]) -> Any:
        return alike(super().run(op), self.beside.run(op))

    def half(self, op: Operation[Any]) -> None:
        """Its process died before it came to that."""

    def power_cut(self) -> None:
        """No rule here."""

    def teardown(self) -> None:
        with closing(self.beside):
            for look in (Snapshot(), ListTasks(), TaskSnapshot()):
                self.run(look)
            super().teardown()


def alike(expected: Any, answer: Any) -> Any:
    """The answer of both; only the order of wakes is free."""
    assert frozenset(answer.wakes) == frozenset(expected.wakes)
    assert msgspec.structs.replace(answer, wakes=()) == msgspec.structs.replace(expected, wakes=())
    return expected


@contextmanager
def embedded(folder: Path) -> Iterator[Open]:
    def anew(clock: Callable[[], Instant]) -> Beside:
        shutil.rmtree(folder / "state", ignore_errors=True)
        return EmbeddedStore(folder / "state", clock=clock)

    yield anew


@contextmanager
def on_redis(_: Path) -> Iterator[Open]:
    with serving() as server, server.client() as client:

        def anew(clock: Callable[[], Instant]) -> Beside:
            client.flushall()
            return Scripted(client, clock=clock)

        yield anew


@pytest.mark.parametrize("machine", [LawsBeside, TasksBeside])
@pytest.mark.parametrize("stores", [embedded, on_redis])
def test_a_store_answers_a_machine_as_the_model_does(
    machine: Callable[[Open], Any], stores: Callable[[Path], AbstractContextManager[Open]], tmp_path: Path
) -> None:
    with stores(tmp_path) as open_store:
        factory: Any = partial(machine, open_store)
        run_state_machine_as_test(factory, settings=EXAMPLES)
