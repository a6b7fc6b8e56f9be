"""Processes that are cut off from their store, and what is to be seen of them at any store: each tale is told once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import names, node
from tests.processes import runtime_parts as parts
from tests.processes.runtime_parts import now

from cross_instance import RateLimitExceeded
from cross_instance.events import STORE_DEGRADED as DEGRADED, STORE_RECOVERED as RECOVERED
from cross_instance.rules.operations import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.processes.runtime_herd import Herd

    from cross_instance import Runtime

RATE, BURST = 50, 20
"""Requests per second, and at once."""
ACCOUNT: dict[str, Any] = {"providers": {"acme": {"requestsPerMinute": 60 * RATE, "burst": BURST}}}
NAMES = ("a", "b", "c", "d")
IMPATIENT = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 2_000}
"""Looks often whether anybody has fallen silent, and is removed soon when it has."""


def allowed(begin: int, end: int) -> float:
    """What the limit allows in a time, told a little too late."""
    return BURST + RATE * ((end - begin) / SECOND + 1)


def start_greedy(herd: Herd, folders: Sequence[Path], settings: dict[str, Any], patience: float = 10.0) -> list[int]:
    """Four greedy processes in these folders by turns, each of which has had permits and knows its share."""
    greedy = [
        herd.start(parts.greedy, folder=folders[place % len(folders)], settings=settings, name=name, patience=patience)
        for place, name in enumerate(NAMES)
    ]
    for pid in greedy:
        herd.hear("joined", pid)
    for pid in greedy:
        herd.tell(pid, "go")
    for pid in greedy:
        herd.hear("granted", pid, count=5)
    return greedy


def await_cut_off(herd: Herd, pids: Sequence[int], since: int) -> int:
    """Listen until each, heard since an instant, runs at its share; that instant, or when the last of them began to.

    A slow machine may have kept one from the store before: then it does not tell it again.
    """

    def last(pid: int) -> tuple[int, str]:
        told = (event for word in ("joined", DEGRADED, RECOVERED) for event in herd.said(word, pid, 0))
        return max((event.at, event.word) for event in told)

    def is_cut_off(pid: int) -> bool:
        heard = any(event.pid == pid and event.at >= since for event in reversed(herd.events))
        return heard and last(pid)[1] == DEGRADED

    herd.until(lambda: all(map(is_cut_off, pids)))
    return max(since, *(last(pid)[0] for pid in pids))


def lose_the_store(
    herd: Herd, greedy: list[int], timeout: int, lose: Callable[[], int], mend: Callable[[], object]
) -> tuple[int, int]:
    """All run at their share, stop when their heartbeat timeout (ms) is over, and come back once it is mended.

    When the store was lost, and when the last of them had a permit again.
    """
    cut = lose()
    degraded = await_cut_off(herd, greedy, cut)
    stopped = herd.await_all("stopped", greedy, cut)
    at_share = [sum(event.at <= stopped for event in herd.said("granted", pid, degraded)) for pid in greedy]
    assert all(at_share), "all of them went on"
    assert herd.granted_between(cut, stopped) <= allowed(cut, stopped)
    for pid in greedy:
        last = [event for event in herd.said("granted", pid, cut) if event.at <= stopped][-1]
        assert last.at - cut <= (timeout + 3_000) * 1_000, "nobody went on beyond his heartbeat timeout"
    mended = now()
    mend()
    recovered = herd.await_all("granted", greedy, mended)
    herd.await_all(RECOVERED, greedy, mended)
    print(
        f"4 cut off under {RATE}/s: noticed after {(degraded - cut) / SECOND:.2f} s, {at_share} permits from their "
        f"shares in {(stopped - degraded) / SECOND:.1f} s, stopped after {(stopped - cut) / SECOND:.2f} s, all "
        f"had permits {(recovered - mended) / SECOND:.2f} s after it was mended"
    )
    return cut, recovered


def outlast(herd: Herd, greedy: list[int], hanging: AbstractContextManager[object]) -> tuple[int, int]:
    """All run at their share beside a store that hangs, and have it charged afterwards; at the end they are killed.

    When the store began to hang, and when they were killed.
    """
    cut = now()
    with hanging:
        degraded = await_cut_off(herd, greedy, cut)
        for pid in greedy:
            herd.hear("granted", pid, since=len(herd.events), count=10)
        freed = now()
    recovered = herd.await_all(RECOVERED, greedy, freed)
    assert len({event.rest for event in herd.events if event.word == "granted"}) == 4, "nobody had to join anew"
    assert herd.granted_between(cut, freed) <= allowed(cut, freed)
    herd.await_all("granted", greedy, recovered)
    killed = herd.kill(*greedy)
    herd.hear_out()
    print(
        f"beside a store that hangs: noticed after {(degraded - cut) / SECOND:.2f} s, "
        f"all recovered {(recovered - freed) / SECOND:.3f} s after it went on"
    )
    return cut, killed


def pause_a_holder(herd: Herd, runtime: Runtime, folder: Path, settings: dict[str, Any]) -> None:
    """A holder of one of two slots is stopped longer than its heartbeat timeout: it becomes a ghost and comes back.

    `runtime` is called "tester", and alone.
    """
    holder = herd.start(parts.puppet, folder=folder, settings=settings, name="holder")
    before = int(herd.hear("joined", holder).rest[0])
    herd.tell(holder, "take acme")
    herd.hear("took", holder)
    herd.stop(holder, folder / "runtime")
    herd.until(lambda: names(runtime) == ["tester"])
    assert (node(runtime).held, node(runtime).ghosts) == (1, 1), "its call may still run"
    with runtime.permit("acme", "m-1"), pytest.raises(RateLimitExceeded):
        runtime.permit("acme", "m-1", timeout=0).acquire()
    os.kill(holder, signal.SIGCONT)
    herd.tell(holder, "give acme")
    herd.hear("gave", holder)
    assert node(runtime).ghosts == 1, "a fenced holder gives nothing back"
    herd.tell(holder, "take acme")
    assert int(herd.hear("took", holder, count=2).rest[1]) > before
    assert names(runtime) == ["tester", "holder"]
    assert (node(runtime).held, node(runtime).ghosts) == (2, 1)
    assert "joins anew" in herd.complaints()
