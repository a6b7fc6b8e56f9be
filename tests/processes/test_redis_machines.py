"""Several machines at one server: folders that share nothing, and a server that is killed, stopped, slow or full."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Event, Herd
from tests.stores.redis_server import Server, serving

from cross_instance import RateLimitExceeded, Runtime
from cross_instance.rules.operations import SECOND, NodeState, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE, BURST = 50, 20
"""Requests per second, and at once."""
IMPATIENT = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 2_000}
"""Times after which the silent are removed here."""
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd() as herd:
        yield herd


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def slots(server: Server, count: int) -> dict[str, Any]:
    account = {"requestsPerMinute": 6_000_000, "burst": 100_000, "concurrency": count}
    return {"providers": {"acme": account}, "store": server.url(), **IMPATIENT}


def rate(server: Server, **settings: Any) -> dict[str, Any]:
    url = server.url("default", "patience=0.3", "timeout=0.2")
    return {"providers": {"acme": {"requestsPerMinute": 60 * RATE, "burst": BURST}}, "store": url, **settings}


def machine(folder: Path, name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name


def node(runtime: Runtime) -> NodeState:
    return next(node for node in runtime.run(Snapshot()).nodes if node.node == "acme/default")


def names(runtime: Runtime) -> list[str]:
    return [instance.instance_id for instance in runtime.run(Snapshot()).instances]


def now() -> int:
    return time.monotonic_ns() // 1000


# --- machines that die, and machines that pause --------------------------------------------------------------------


def test_a_machine_that_pauses_too_long_is_fenced_and_joins_anew(tmp_path: Path, herd: Herd, server: Server) -> None:
    settings, here, there = slots(server, 2), machine(tmp_path, "here"), machine(tmp_path, "there")
    with Runtime("tester", settings=parts.settings_for(str(here), settings)) as runtime:
        holder = herd.start(parts.puppet, folder=there, settings=settings, name="holder")
        before = int(herd.hear("joined", holder).rest[0])
        herd.tell(holder, "take acme")
        herd.hear("took", holder)
        herd.stop(holder, there / "runtime")
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


def test_a_machine_that_dies_is_noticed_by_its_silence(tmp_path: Path, herd: Herd, server: Server) -> None:
    settings, here, there = slots(server, 1), machine(tmp_path, "here"), machine(tmp_path, "there")
    with Runtime("tester", settings=parts.settings_for(str(here), settings)) as runtime:
        dead = [herd.start(parts.puppet, folder=there, settings=settings) for _ in range(2)]
        for pid in dead:
            herd.hear("joined", pid)
        herd.tell(dead[0], "take acme")
        herd.hear("took", dead[0])
        herd.tell(dead[1], "take acme")
        herd.until(lambda: node(runtime).waiting == 1)
        at = herd.kill(*dead)
        herd.until(lambda: names(runtime) == ["tester"])
        print(f"with a heartbeat timeout of 2 s a dead machine was removed after {(now() - at) / SECOND:.2f} s")
        seen = node(runtime)
        assert (seen.waiting, seen.held, seen.ghosts) == (0, 1, 1), "waiters are gone, its call may still run"


# --- a server that is away -----------------------------------------------------------------------------------------


def start(herd: Herd, folder: Path, settings: dict[str, Any]) -> list[int]:
    """Greedy processes on two machines, each of which has had permits and knows its share."""
    greedy = [
        herd.start(parts.greedy, folder=machine(folder, f"m{place % 2}"), settings=settings, name=name, patience=0)
        for place, name in enumerate(NAMES)
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


def granted_between(herd: Herd, begin: int, end: int) -> int:
    return sum(event.word == "granted" and begin <= event.at <= end for event in herd.events)


def allowed(begin: int, end: int) -> float:
    """What the limit allows in a time, told a little too late."""
    return BURST + RATE * ((end - begin) / SECOND + 1)


def test_without_the_server_all_run_at_their_share_then_stop_and_come_back(
    tmp_path: Path, herd: Herd, server: Server
) -> None:
    timeout = 4_000
    greedy = start(herd, tmp_path, rate(server, heartbeat_interval_ms=500, heartbeat_timeout_ms=timeout))
    cut = now()
    server.kill()
    degraded = await_all(herd, "store-degraded", greedy, cut)
    stopped = await_all(herd, "stopped", greedy, cut)
    at_share = [len([e for e in said(herd, "granted", pid, degraded) if e.at <= stopped]) for pid in greedy]
    assert all(at_share), "all of them went on"
    assert granted_between(herd, cut, stopped) <= allowed(cut, stopped)
    for pid in greedy:
        last = [event for event in said(herd, "granted", pid, cut) if event.at <= stopped][-1]
        assert last.at - cut <= (timeout + 3_000) * 1_000, "nobody went on beyond his heartbeat timeout"
    started = now()
    server.start()
    recovered = await_all(herd, "granted", greedy, started)
    await_all(herd, "store-recovered", greedy, started)
    assert granted_between(herd, cut, recovered) <= allowed(cut, recovered)
    print(
        f"4 processes on 2 machines under {RATE}/s without their server: noticed after {(degraded - cut) / SECOND:.2f} "
        f"s, {at_share} permits from their shares in {(stopped - degraded) / SECOND:.1f} s, stopped after "
        f"{(stopped - cut) / SECOND:.2f} s, all had permits {(recovered - started) / SECOND:.2f} s after its start"
    )
    herd.kill(*greedy)
    herd.until(lambda: server.connections() == 0)


def test_beside_a_server_that_hangs_all_run_at_their_share_and_charge_it_afterwards(
    tmp_path: Path, herd: Herd, server: Server
) -> None:
    settings = rate(server)
    greedy = start(herd, tmp_path, settings)
    cut = now()
    with server.stopped():
        degraded = await_all(herd, "store-degraded", greedy, cut)
        for pid in greedy:
            herd.hear("granted", pid, since=len(herd.events), count=10)
        freed = now()
    recovered = await_all(herd, "store-recovered", greedy, freed)
    assert len({event.rest for event in herd.events if event.word == "granted"}) == 4, "nobody had to join anew"
    assert granted_between(herd, cut, freed) <= allowed(cut, freed)
    await_all(herd, "granted", greedy, recovered)
    herd.kill(*greedy)
    assert granted_between(herd, cut, now()) <= allowed(cut, now())
    herd.until(lambda: server.connections() == 0)
    print(
        f"a server that hangs: noticed after {(degraded - cut) / SECOND:.2f} s with a patience of 0.3 s, "
        f"all recovered {(recovered - freed) / SECOND:.3f} s after it went on"
    )
