"""How a process waits at the gate: how often it tries, and what it says in the end."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cross_instance.stores import gate
from cross_instance.stores.gate import Tries

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0
FOLDER = Path("/a/folder")


class Waiting:
    """One wait of `PATIENCE` seconds, in time of its own: `sleeps` between tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holder: Callable[[float], int]) -> None:
        self.now = 1_000.0
        self.sleeps: list[float] = []
        monkeypatch.setattr(gate, "time", self)
        self.tries = Tries(self.now + PATIENCE, FOLDER, lambda: holder(self.now - 1_000.0))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def wait(self) -> int:
        return sum(1 for _ in self.tries)


def test_tries_stay_frequent_while_others_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = count(1)
    waiting = Waiting(monkeypatch, lambda _: next(pids))
    tries = waiting.wait()
    assert tries >= PATIENCE / gate.LONGEST_BUSY
    assert waiting.sleeps == sorted(waiting.sleeps)
    assert max(waiting.sleeps) == gate.LONGEST_BUSY


def test_tries_get_rare_while_one_stays_inside_and_frequent_again_once_it_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Waiting(monkeypatch, lambda waited: 7 if waited < PATIENCE / 2 else 8)
    tries = waiting.wait()
    assert max(waiting.sleeps) == gate.LONGEST
    assert tries < 2 * sum(waiting.sleeps) / gate.LONGEST
    left = waiting.sleeps.index(gate.LONGEST)
    assert gate.LONGEST_BUSY in waiting.sleeps[left:]


def test_one_that_stays_inside_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, lambda waited: 7 if waited < PATIENCE / 3 else 8)
    waiting.wait()
    error = waiting.tries.refusal()
    assert sum(waiting.sleeps) < PATIENCE + 1
    assert error.pid == 8
    assert "kill -CONT 8" in str(error)


def test_nobody_is_named_where_others_came_and_went(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, lambda waited: int(waited / PATIENCE * 3))
    waiting.wait()
    error = waiting.tries.refusal()
    assert sum(waiting.sleeps) >= gate.WHILE_IT_MOVES * PATIENCE, "who is not stuck is waited for"
    assert error.pid == 0
    assert "kill" not in str(error)
    assert "start fewer processes at a time" in str(error)


def test_who_never_waited_names_who_is_inside() -> None:
    assert Tries(time.monotonic(), FOLDER, lambda: 7).refusal().pid == 7
