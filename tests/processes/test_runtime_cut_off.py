"""Processes that are cut off from their store for real: they go on at their share, then stop, and come back alone."""

from __future__ import annotations

from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING

from tests.looking import node
from tests.processes import cut_off, runtime_parts as parts
from tests.processes.cut_off import ACCOUNT
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import now

from cross_instance import Runtime
from cross_instance.stores.folder import GATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMPATIENCE = 2.0
"""Seconds after which a gate counts as stuck here; who lives is never kept from the processor for so long."""


@contextmanager
def stuck_gate(folder: Path) -> Iterator[None]:
    with (folder / "runtime" / GATE).open("rb+") as gate:
        flock(gate, LOCK_EX)
        yield


def test_without_the_folder_all_run_at_their_share_then_stop_and_come_back(tmp_path: Path, herd: Herd) -> None:
    timeout, folder = 4_000, tmp_path / "runtime"
    settings = ACCOUNT | {"heartbeat_interval_ms": 500, "heartbeat_timeout_ms": timeout}
    greedy = cut_off.start_greedy(herd, [tmp_path], settings)
    herd.hear_more(200)
    cut_off.lose_the_store(herd, greedy, timeout, lambda: herd.put_file_for(folder), folder.unlink)
    assert folder.is_dir(), "they have made it again"


def test_behind_a_stuck_gate_all_run_at_their_share_and_charge_it_afterwards(tmp_path: Path, herd: Herd) -> None:
    greedy = cut_off.start_greedy(herd, [tmp_path], ACCOUNT, patience=IMPATIENCE)
    cut, killed = cut_off.outlast(herd, greedy, stuck_gate(tmp_path))
    assert herd.granted_between(cut, killed) <= cut_off.allowed(cut, killed)
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), ACCOUNT)) as runtime:
        runtime.permit("acme", "m-1").acquire().close()
        herd.until(lambda: node(runtime).held == 0)


def test_who_waits_when_the_store_is_lost_goes_on_with_the_share(tmp_path: Path, herd: Herd) -> None:
    slots = {"providers": {"acme": {"requestsPerMinute": 60_000, "concurrency": 2}}}
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), slots)) as runtime:
        waiter = herd.start(parts.greedy, folder=tmp_path, settings=slots, name="waiter", patience=IMPATIENCE)
        herd.hear("joined", waiter)
        herd.tell(waiter, "go")
        herd.hear("granted", waiter)
        held = [runtime.permit("acme", "m-1").acquire() for _ in range(2)]
        herd.until(lambda: node(runtime).waiting == 1)
        with stuck_gate(tmp_path):
            herd.hear("store-degraded", waiter)
            granted = herd.hear("granted", waiter, since=len(herd.events))
            freed = now()
        assert granted.at <= freed <= herd.hear("store-recovered", waiter).at
        for permit in held:
            permit.close()
        herd.hear("granted", waiter, since=len(herd.events), count=3)
        herd.kill(waiter)
