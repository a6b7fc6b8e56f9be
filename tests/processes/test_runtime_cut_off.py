"""Processes that are cut off from their store for real: they go on at their share, then stop, and come back alone."""

from __future__ import annotations

import time
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING, Any

import pytest
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Event, Herd

from cross_instance import Runtime
from cross_instance.rules.operations import SECOND, NodeState, Snapshot
from cross_instance.stores.folder import GATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE, BURST = 50, 20
"""Requests per second, and at once."""
ACCOUNT = {"providers": {"acme": {"requestsPerMinute": 60 * RATE, "burst": BURST}}}
NAMES = ("a", "b", "c", "d")
IMPATIENCE = 2.0
"""Seconds after which a gate counts as stuck here; who lives is never kept from the processor for so long."""


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd() as herd:
        yield herd


def now() -> int:
    return time.monotonic_ns() // 1000


def start(herd: Herd, folder: Path, settings: dict[str, Any], patience: float = 10.0) -> list[int]:
    """Four greedy processes, each of which has had permits and knows its share."""
    greedy = [
        herd.start(parts.greedy, folder=folder, settings=settings, name=name, patience=patience) for name in NAMES
    ]
    for pid in greedy:
        herd.hear("joined", pid)
    for pid in greedy:
        herd.tell(pid, "go")
    for pid in greedy:
        herd.hear("granted", pid, count=5)
    return greedy


def said(herd: Herd, word: str, pid: int, since: int) -> list[Event]:
    return [event for event in herd.events if event.word == word and event.pid == pid and event.at >= since]


def await_all(herd: Herd, word: str, pids: list[int], since: int) -> int:
    """When the last of them said it for the first time since."""
    herd.until(lambda: all(said(herd, word, pid, since) for pid in pids))
    return max(said(herd, word, pid, since)[0].at for pid in pids)


def granted_at_share(herd: Herd, pid: int, cut: int, stopped: int) -> int:
    """How many permits a process had after it had noticed."""
    noticed = said(herd, "store-degraded", pid, cut)[0].at
    return sum(event.at <= stopped for event in said(herd, "granted", pid, noticed))


def granted_between(herd: Herd, begin: int, end: int) -> int:
    return sum(event.word == "granted" and begin <= event.at <= end for event in herd.events)


def test_without_the_folder_all_run_at_their_share_then_stop_and_come_back(tmp_path: Path, herd: Herd) -> None:
    timeout = 4_000
    settings = ACCOUNT | {"heartbeat_interval_ms": 500, "heartbeat_timeout_ms": timeout}
    greedy = start(herd, tmp_path, settings)
    herd.hear_more(200)
    cut = herd.put_file_for(tmp_path / "runtime")
    degraded = await_all(herd, "store-degraded", greedy, cut)
    stopped = await_all(herd, "stopped", greedy, cut)
    since_cut = granted_between(herd, cut, stopped)
    at_share = [granted_at_share(herd, pid, cut, stopped) for pid in greedy]
    assert all(at_share), "all of them went on"
    assert since_cut <= BURST + RATE * ((stopped - cut) / SECOND + 1)
    for pid in greedy:
        last = [event for event in said(herd, "granted", pid, cut) if event.at <= stopped][-1]
        assert last.at - cut <= (timeout + 3_000) * 1_000, "nobody went on beyond his heartbeat timeout"
    (tmp_path / "runtime").unlink()
    mended = now()
    recovered = await_all(herd, "granted", greedy, mended)
    assert await_all(herd, "store-recovered", greedy, mended) >= mended
    print(
        f"4 cut off under {RATE}/s: noticed after {(degraded - cut) / SECOND:.2f} s, {at_share} permits from their "
        f"shares in {(stopped - degraded) / SECOND:.1f} s, stopped after {(stopped - cut) / SECOND:.2f} s, all "
        f"had permits {(recovered - mended) / SECOND:.2f} s after the folder could be made again"
    )


def test_behind_a_stuck_gate_all_run_at_their_share_and_charge_it_afterwards(tmp_path: Path, herd: Herd) -> None:
    greedy = start(herd, tmp_path, ACCOUNT, patience=IMPATIENCE)
    with (tmp_path / "runtime" / GATE).open("rb+") as gate:
        flock(gate, LOCK_EX)
        cut = now()
        degraded = await_all(herd, "store-degraded", greedy, cut)
        for pid in greedy:
            herd.hear("granted", pid, since=len(herd.events), count=10)
        freed = now()
    recovered = await_all(herd, "store-recovered", greedy, freed)
    incarnations = {event.rest for event in herd.events if event.word == "granted"}
    assert len(incarnations) == 4, "nobody had to join anew"
    assert granted_between(herd, cut, freed) <= BURST + RATE * ((freed - cut) / SECOND + 1)
    await_all(herd, "granted", greedy, recovered)
    herd.kill(*greedy)
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), ACCOUNT)) as runtime:
        runtime.permit("acme", "m-1").acquire().close()
        herd.until(lambda: account(runtime).held == 0)
    total = granted_between(herd, cut, now())
    assert total <= BURST + RATE * ((now() - cut) / SECOND + 1)
    print(
        f"behind a stuck gate: noticed after {(degraded - cut) / SECOND:.2f} s with a patience of {IMPATIENCE} s, "
        f"all recovered {(recovered - freed) / SECOND:.3f} s after it was freed"
    )


def account(runtime: Runtime) -> NodeState:
    (node,) = (node for node in runtime.run(Snapshot()).nodes if node.node == "acme/default")
    return node


def test_who_waits_when_the_store_is_lost_goes_on_with_the_share(tmp_path: Path, herd: Herd) -> None:
    slots = {"providers": {"acme": {"requestsPerMinute": 60_000, "concurrency": 2}}}
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), slots)) as runtime:
        waiter = herd.start(parts.greedy, folder=tmp_path, settings=slots, name="waiter", patience=IMPATIENCE)
        herd.hear("joined", waiter)
        herd.tell(waiter, "go")
        herd.hear("granted", waiter)
        held = [runtime.permit("acme", "m-1").acquire() for _ in range(2)]
        herd.until(lambda: account(runtime).waiting == 1)
        with (tmp_path / "runtime" / GATE).open("rb+") as gate:
            flock(gate, LOCK_EX)
            herd.hear("store-degraded", waiter)
            granted = herd.hear("granted", waiter, since=len(herd.events))
            freed = now()
        assert granted.at <= freed <= herd.hear("store-recovered", waiter).at
        for permit in held:
            permit.close()
        herd.hear("granted", waiter, since=len(herd.events), count=3)
        herd.kill(waiter)
