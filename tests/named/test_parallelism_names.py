"""Nothing of the reference document is missing: functions, methods, interfaces and their fields."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import reduce
from typing import Any

import pytest
from tests.named.names import ROOT, names_in, rows, snake

from cross_instance import dynamic_parallelism
from cross_instance.dynamic_parallelism import DynamicParallelismAdjuster
from cross_instance.spelling import camel

LISTED = names_in("parallelism_names.txt")
PAGE = (ROOT / "docs" / "reference" / "parallelism.md").read_text(encoding="utf-8")
TABLE = rows("parallelism.md")


def of(part: str) -> list[str]:
    return [name for name, _ in LISTED[part] if not name.startswith("- ")]


def test_the_list_is_whole() -> None:
    assert [len(LISTED[part]) for part in ("functions", "methods", "interfaces")] == [8, 22, 5]


@pytest.mark.parametrize("name", of("functions"))
def test_every_function_is_one_of_the_module(name: str) -> None:
    assert snake(name) in dynamic_parallelism.__all__
    assert inspect.getdoc(getattr(dynamic_parallelism, snake(name)))


@pytest.mark.parametrize("name", of("methods"))
def test_every_public_method_is_one_of_the_class(name: str) -> None:
    assert inspect.getdoc(getattr(DynamicParallelismAdjuster, snake(name)))


@pytest.mark.parametrize(("name", "members"), [one for one in LISTED["interfaces"] if not one[0].startswith("- ")])
def test_every_interface_is_a_frozen_dataclass_with_its_fields(name: str, members: tuple[str, ...]) -> None:
    made: Any = getattr(dynamic_parallelism, name)
    assert name in dynamic_parallelism.__all__
    assert made.__dataclass_params__.frozen
    assert tuple(camel(field.name) + "?" * (field.name in made.OPTIONAL) for field in fields(made)) == members


def test_every_name_is_in_the_table_and_what_the_table_says_exists() -> None:
    assert set(TABLE) == {name.removeprefix("- ") for names in LISTED.values() for name, _ in names}
    from cross_instance.dynamic_parallelism import adjuster, machine

    places = {"adjuster": adjuster, "machine": machine}
    for place in TABLE.values():
        first, *rest = place.split(".")
        start = places.get(first) or getattr(dynamic_parallelism, first)
        assert reduce(getattr, rest, start)


def test_everything_public_is_documented() -> None:
    assert [name for name in dynamic_parallelism.__all__ if f"`{name}" not in PAGE] == []
