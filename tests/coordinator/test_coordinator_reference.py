"""Nothing of the reference document is missing: every name has its counterpart, and every interface its fields."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cross_instance import coordinator
from cross_instance.coordinator import Coordinator
from cross_instance.spelling import camel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "coordinator.md").read_text(encoding="utf-8")
LIST = (ROOT / "tests" / "data" / "coordinator_names.txt").read_text(encoding="utf-8")

UNEXPORTED_AND_PUBLIC = {"isInstanceAlive", "matchesModelPattern", "tryAcquireLock", "releaseLock", "DistributedLock"}
"""What the document describes outside of its table of exports, and this package offers all the same."""
INTERNAL = {"CoordinatorInternalState"}
"""What its table exports, and only its own module can make."""
MORE = {"DistributedLock": {"fence"}}
"""Fields that are ours."""
SHAPES = {
    "CoordinatorStatus": "registered myInstanceId activeInstanceCount myParallelLimit config instances",
    "ModelUsageSummary": "models instances",
    "ModelUsage": "provider model instanceCount",
    "WorkStealingSummary": "remoteInstances totalPendingTasks stealableTasks idleInstances busyInstances",
}
"""What functions of the document give that has no name there."""


class Name(NamedTuple):
    """A name of the document; `fields` is None for a function."""

    text: str
    exported: bool
    fields: tuple[str, ...] | None

    @property
    def public(self) -> bool:
        return (self.exported or self.text in UNEXPORTED_AND_PUBLIC) and self.text not in INTERNAL

    @property
    def ours(self) -> str:
        return self.text if self.fields is not None else re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), self.text)


def read(line: str) -> Name:
    name, colon, rest = line.removeprefix("- ").partition(":")
    return Name(name, not line.startswith("- "), tuple(rest.split()) if colon else None)


NAMES = [read(line) for line in LIST.splitlines() if line and not line.startswith("#")]
ROWS = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", PAGE, re.MULTILINE))


def test_the_list_is_whole() -> None:
    assert (len([name for name in NAMES if name.fields is None]), len([n for n in NAMES if n.fields])) == (45, 9)
    assert len([name for name in NAMES if name.exported]) == 41


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.text)
def test_every_name_is_in_the_table_and_what_the_table_says_exists(name: Name) -> None:
    place = ROWS[name.text]
    if name.public:
        assert place == name.ours
        place = f"cross_instance.coordinator.{place}"
    module, _, attribute = place.rpartition(".")
    assert hasattr(import_module(module), attribute)


def test_the_table_has_no_name_besides() -> None:
    assert list(ROWS) == [name.text for name in NAMES]


@pytest.mark.parametrize("name", [n for n in NAMES if n.public and n.fields is None], ids=lambda name: name.text)
def test_every_function_is_one_of_the_module_and_a_documented_method(name: Name) -> None:
    assert name.ours in coordinator.__all__
    function, method = getattr(coordinator, name.ours), getattr(Coordinator, name.ours)
    assert function.__func__ is method
    assert function.__self__ is coordinator.this_process
    assert inspect.getdoc(method)
    assert inspect.iscoroutinefunction(method) is (name.text == "safeStealWork")


@pytest.mark.parametrize("name", [n for n in NAMES if n.public and n.fields], ids=lambda name: name.text)
def test_every_interface_is_a_frozen_dataclass_with_its_fields(name: Name) -> None:
    assert name.ours in coordinator.__all__
    made: Any = getattr(coordinator, name.ours)
    assert made.__dataclass_params__.frozen
    assert name.fields is not None
    marked = {camel(field.name) + "?" * (field.name in made.OPTIONAL) for field in fields(made)}
    assert marked - MORE.get(name.text, set()) == set(name.fields)


@pytest.mark.parametrize("name", SHAPES)
def test_the_shapes_without_a_name(name: str) -> None:
    assert [camel(field.name) for field in fields(getattr(coordinator, name))] == SHAPES[name].split()


def test_everything_public_is_documented() -> None:
    assert [
        name for name in coordinator.__all__ if f"`{name}" not in PAGE and name not in {*SHAPES, "this_process"}
    ] == []
    assert all(name in PAGE for name in SHAPES if name != "ModelUsage")
