"""Several machines at one server: folders that share nothing, and a server that is killed, stopped, slow or full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import names, node
from tests.processes import cut_off, runtime_parts as parts
from tests.processes.cut_off import ACCOUNT, IMPATIENT
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import now
from tests.stores.redis_server import Server, serving

from cross_instance import Runtime
from cross_instance.rules.operations import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def slots(server: Server, count: int) -> dict[str, Any]:
    return parts.account(count) | {"store": server.url()} | IMPATIENT


def rate(server: Server, **settings: Any) -> dict[str, Any]:
    return ACCOUNT | {"store": server.url("default", "patience=2", "timeout=1")} | settings


def machine(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


# --- machines that die, and machines that pause --------------------------------------------------------------------


def test_a_machine_that_pauses_too_long_is_fenced_and_joins_anew(tmp_path: Path, herd: Herd, server: Server) -> None:
    settings, here, there = slots(server, 2), machine(tmp_path, "here"), machine(tmp_path, "there")
    with Runtime("tester", settings=parts.settings_for(str(here), settings)) as runtime:
        cut_off.pause_a_holder(herd, runtime, there, settings)


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
    """Greedy processes on two machines."""
    return cut_off.start_greedy(herd, [machine(folder, "m0"), machine(folder, "m1")], settings)


def test_without_the_server_all_run_at_their_share_then_stop_and_come_back(
    tmp_path: Path, herd: Herd, server: Server
) -> None:
    timeout = 4_000
    greedy = start(herd, tmp_path, rate(server, heartbeat_interval_ms=500, heartbeat_timeout_ms=timeout))

    def lose() -> int:
        cut = now()
        server.kill()
        return cut

    cut, recovered = cut_off.lose_the_store(herd, greedy, timeout, lose, server.start)
    assert herd.granted_between(cut, recovered) <= cut_off.allowed(cut, recovered)
    herd.kill(*greedy)
    herd.until(lambda: server.connections() == 0)


def test_beside_a_server_that_hangs_all_run_at_their_share_and_charge_it_afterwards(
    tmp_path: Path, herd: Herd, server: Server
) -> None:
    greedy = start(herd, tmp_path, rate(server))
    cut, killed = cut_off.outlast(herd, greedy, server.stopped())
    assert herd.granted_between(cut, killed) <= cut_off.allowed(cut, killed)
    herd.until(lambda: server.connections() == 0)
