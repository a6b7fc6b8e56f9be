"""Processes that are stopped, and go on: they delay others once, are removed when silent too long, and come back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.looking import names, node
from tests.processes import cut_off, runtime_parts as parts
from tests.processes.cut_off import IMPATIENT
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import account

from cross_instance import Runtime
from cross_instance.rules.operations import Settle, Settled

if TYPE_CHECKING:
    from pathlib import Path

    from cross_instance.permits import Permit


WATCHFUL = {"heartbeat_interval_ms": 100}
"""Looks often whether anybody has fallen silent; those who are to be stopped, and nobody else, are `IMPATIENT`."""


def give_back(runtime: Runtime, permit: Permit) -> Settled:
    """Give a permit back; what the store says to that."""
    settled = runtime.run(Settle(permit.incarnation, permit.seq))
    permit.close()
    return settled


def await_waiting(herd: Herd, runtime: Runtime, count: int) -> None:
    herd.until(lambda: node(runtime).waiting == count)


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
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), account(2) | WATCHFUL)) as runtime:
        cut_off.pause_a_holder(herd, runtime, tmp_path, account(2) | IMPATIENT)


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
