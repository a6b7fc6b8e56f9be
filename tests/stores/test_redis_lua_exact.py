"""Lua's arithmetic beyond 2^53 beside Python's integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import example, given, settings, strategies as st
from tests.stores.redis_server import serving

from cross_instance.rules.limits import EXACT
from cross_instance.stores.redis.scripts import LUA

Calculate = Callable[..., int]

MOST = EXACT - 1
amounts = st.integers(1, 1 << 33) | st.sampled_from([1, 2, 3, (1 << 33) - 1])
counts = st.integers(0, MOST) | st.sampled_from([0, 1, MOST])
levels = st.integers(-MOST, MOST) | st.sampled_from([-MOST, -1, 0, 1, MOST])


@pytest.fixture(scope="module")
def calculate() -> Iterator[Calculate]:
    """A function of exact.lua, on a server; true is 1, false 0."""
    texts = [(LUA / f"{name}.lua").read_text(encoding="utf-8") for name in ("clock", "forms")]
    module = (LUA / "exact.lua").read_text(encoding="utf-8")
    ask = """
        local figures = {}
        for place = 2, #ARGV do figures[place - 1] = tonumber(ARGV[place]) end
        local answer = exact[ARGV[1]](unpack(figures))
        if type(answer) == "boolean" then answer = answer and 1 or 0 end
        return string.format("%.0f", answer)
    """
    script = "\n".join((*texts, "local function modules()", module, "end", "local exact = modules()", ask))
    with serving() as server, server.client() as client:
        known: redis.commands.core.Script = client.register_script(script)

        def run(name: str, *figures: int) -> int:
            return int(known(args=(name, *figures)))

        yield run


@given(levels, amounts, counts)
@example(-MOST, 1, MOST)
@example(-MOST, (1 << 33) - 1, (1 << 21) + 1)
@settings(max_examples=400, deadline=None)
def test_gain_is_exact_or_too_much(calculate: Calculate, level: int, each: int, count: int) -> None:
    expected, answer = level + each * count, calculate("gain", level, each, count)
    assert answer == expected if abs(expected) < EXACT else answer >= EXACT


@given(st.integers(0, MOST), levels, amounts)
@example(MOST, -MOST, 1)
@settings(max_examples=400, deadline=None)
def test_a_difference_is_divided_exactly(calculate: Calculate, high: int, low: int, divisor: int) -> None:
    expected = -(-(high - low) // divisor)
    answer = calculate("ceil_div_difference", high, low, divisor)
    assert answer == expected if expected < EXACT else answer >= EXACT


@given(counts, amounts)
@settings(max_examples=200, deadline=None)
def test_divisions_round_as_they_should(calculate: Calculate, dividend: int, divisor: int) -> None:
    assert calculate("ceil_div", dividend, divisor) == -(-dividend // divisor)
    assert calculate("ceil_div", -dividend, divisor) == -(dividend // divisor)


@given(amounts, st.integers(1, 1 << 40), st.integers(1, 1 << 50))
@settings(max_examples=400, deadline=None)
def test_a_product_is_divided_exactly(calculate: Calculate, one: int, other: int, divisor: int) -> None:
    expected, answer = one * other // divisor, calculate("muldiv", one, other, divisor)
    assert answer == expected if expected < EXACT else answer >= EXACT


@given(amounts, st.integers(1, MOST), amounts, st.integers(1, MOST))
@example(1, MOST, 1, MOST - 1)
@example(3, 7, 6, 14)
@settings(max_examples=400, deadline=None)
def test_rates_are_compared_exactly(calculate: Calculate, a: int, b: int, c: int, d: int) -> None:
    assert calculate("is_less", a, b, c, d) == (a * d < c * b)
