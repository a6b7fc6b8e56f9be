"""Processes that are stopped, and go on: they delay others once, are removed when silent too long, and come back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd

from cross_instance import RateLimitExceeded, Runtime
from cross_instance.rules.operations import NodeState, Settle, Settled, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cross_instance.permits import Permit


def account(slots: int) -> dict[str, Any]:
    return {"providers": {"acme": {"requestsPerMinute": 6_000_000, "burst": 100_000, "concurrency": slots}}}


WATCHFUL = {"heartbeat_interval_ms": 100}
"""Looks often whether anybody has fallen silent."""
IMPATIENT = WATCHFUL | {"heartbeat_timeout_ms": 2_000}
"""Is removed soon when it has fallen silent: for those who are stopped, and for nobody else."""


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd() as herd:
        yield herd


def give_back(runtime: Runtime, permit: Permit) -> Settled:
    """Give a permit back; what the store says to that."""
    settled = runtime.run(Settle(permit.incarnation, permit.seq))
    permit.close()
    return settled


def await_waiting(herd: Herd, runtime: Runtime, count: int) -> None:
    herd.until(lambda: node(runtime).waiting == count)


def node(runtime: Runtime) -> NodeState:
    return next(node for node in runtime.run(Snapshot()).nodes if node.node == "acme/default")


def names(runtime: Runtime) -> list[str]:
    return [instance.instance_id for instance in runtime.run(Snapshot()).instances]


def test_a_stopped_waiter_delays_the_others_once(tmp_path: Path, herd: Herd) -> None:
    settings = account(1)
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), settings)) as runtime:
        mine = runtime.permit("acme", "m-1").acquire()
        stopped, other = (herd.start(parts.puppet, folder=tmp_path, settings=settings) for _ in range(2))
        for place, pid in enumerate((stopped, other), 1):
            herd.hear("joined", pid)
            herd.tell(pid, "take acme")
            await_waiting(herd, runtime, place)
        herd.stop(stopped, tmp_path / "runtime")
        woken = give_back(runtime, mine)
        late = herd.hear("took", other).at - woken.at.mono
        print(f"a stopped waiter delayed the next by {late / 1000:.0f} ms")
        for _ in range(3):
            mine = runtime.permit("acme", "m-1")
            herd.tell(other, "give acme")
            mine.acquire()
            since = len(herd.events)
            herd.tell(other, "take acme")
            await_waiting(herd, runtime, 2)
            woken = give_back(runtime, mine)
            taken = herd.hear("took", other, since=since)
            assert [wake.incarnation for wake in woken.wakes] == [int(taken.rest[1])], "it went past the stopped one"
        os.kill(stopped, signal.SIGCONT)
        herd.tell(other, "give acme")
        herd.hear("took", stopped)


def test_a_holder_stopped_too_long_becomes_a_ghost_and_comes_back(tmp_path: Path, herd: Herd) -> None:
    settings = account(2) | IMPATIENT
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), account(2) | WATCHFUL)) as runtime:
        holder = herd.start(parts.puppet, folder=tmp_path, settings=settings, name="holder")
        before = int(herd.hear("joined", holder).rest[0])
        herd.tell(holder, "take acme")
        herd.hear("took", holder)
        herd.stop(holder, tmp_path / "runtime")
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


def test_a_waiter_stopped_too_long_joins_anew_and_waits_on(tmp_path: Path, herd: Herd) -> None:
    settings = account(1) | IMPATIENT
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), account(1) | WATCHFUL)) as runtime:
        waiter = herd.start(parts.puppet, folder=tmp_path, settings=settings, name="waiter")
        before = int(herd.hear("joined", waiter).rest[0])
        with runtime.permit("acme", "m-1"):
            herd.tell(waiter, "take acme")
            await_waiting(herd, runtime, 1)
            herd.stop(waiter, tmp_path / "runtime")
            herd.until(lambda: names(runtime) == ["tester"])
            assert node(runtime).waiting == 0
            os.kill(waiter, signal.SIGCONT)
            await_waiting(herd, runtime, 1)
        assert int(herd.hear("took", waiter).rest[1]) > before
