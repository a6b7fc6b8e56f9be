"""The line before the gate: who is first, who comes next, and who gives up."""

from __future__ import annotations

import os
import threading
import time
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from cross_instance.stores import gate
from cross_instance.stores.gate import Gate, Tries
from cross_instance.stores.line import Place

PATIENCE = 60.0
"""Seconds: longer than anything takes that is not broken."""


def becomes_first(place: Place) -> bool:
    place.wait(PATIENCE)
    return place.is_first


def test_one_after_the_other_is_first(tmp_path: Path) -> None:
    one = Place(tmp_path)
    assert becomes_first(one)
    other = Place(tmp_path)
    other.wait(0.01)
    assert not other.is_first
    one.leave()
    assert becomes_first(other)
    other.leave()


def test_who_gives_up_holds_up_nobody(tmp_path: Path) -> None:
    one = Place(tmp_path)
    assert becomes_first(one)
    impatient = Place(tmp_path)
    impatient.leave()
    one.leave()
    last = Place(tmp_path)
    assert becomes_first(last)
    last.leave()


def test_a_child_that_was_forked_meanwhile_keeps_no_place(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert becomes_first(place)
    kept = os.dup(place._descriptor)  # what a child has of it
    place.leave()
    after = Place(tmp_path)
    assert becomes_first(after)
    after.leave()
    os.close(kept)


@pytest.mark.parametrize("stand", [True, False], ids=["behind one that is stopped", "where there is no line"])
def test_who_is_not_first_enters_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand: bool) -> None:
    monkeypatch.setattr(gate, "IN_LINE_AFTER", 0.0)
    stopped = os.open(tmp_path, os.O_RDONLY)
    flock(stopped, LOCK_EX)
    mine, others = Gate(tmp_path / "gate"), Gate(tmp_path / "gate")
    assert others.enter()
    opener = threading.Timer(0.02, others.leave)
    opener.start()
    folder = tmp_path if stand else tmp_path / "none"
    assert any(mine.enter() for _ in Tries(time.monotonic() + PATIENCE, folder, mine.holder))
    opener.join()
    mine.leave()
    os.close(stopped)
    after = Place(tmp_path)
    assert becomes_first(after)  # its own place was given up with the wait
    after.leave()
    mine.close()
    others.close()
