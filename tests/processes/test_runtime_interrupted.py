"""Programs interrupted at any moment: they end at once, say nothing of errors, and leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest
from tests.looking import names, waiting
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd

from cross_instance import Runtime
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.folder import WAKE

if TYPE_CHECKING:
    from pathlib import Path

TIMES = 10
WORKERS = 4
ONE = parts.PLENTY | {"concurrency": 1}
SETTINGS = {"providers": {"one": ONE, "acme": ONE, "rate": {"requestsPerMinute": 6_000, "burst": 20}}}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_moment(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    chance = random.Random(number)
    settings = parts.settings_for(str(tmp_path), {**SETTINGS, "heartbeat_interval_ms": 200})
    with Herd() as herd, Runtime("witness", settings=settings) as witness:
        locks = tmp_path / "runtime" / "instances"

        def start() -> None:
            seed = chance.randrange(1 << 30)
            where = {"folder": tmp_path, "settings": SETTINGS, "providers": ["one", "rate"]}
            herd.start(parts.until_interrupted, seed=seed, kind=kind, **where)

        for _ in range(WORKERS):
            start()
        herd.hear("granted", count=20)
        for _ in range(TIMES):
            herd.hear_more(chance.randrange(1, 30))
            pid = chance.choice([event.pid for event in herd.events[-20:] if event.pid in herd.living])
            os.kill(pid, number)
            assert herd.end(pid) == 0
            start()
        for pid in list(herd.living):
            herd.hear("granted", pid)
            os.kill(pid, number)
            assert herd.end(pid) == 0
        herd.until(lambda: [path.name for path in locks.glob("*.lock")] == ["witness.lock"])
        with witness.permit("one", "m-1", timeout=0):
            world = witness.run(Snapshot())
        assert [(instance.instance_id, instance.held) for instance in world.instances] == [("witness", 1)]
        assert sum(node.waiting for node in world.nodes) == 0
    with Runtime("next", settings=settings):
        pass  # whoever comes next removes the pipe of one that was interrupted while it left
    assert list((tmp_path / "runtime" / WAKE).iterdir()) == []


def test_a_program_that_just_ends_leaves_also_while_its_threads_wait(tmp_path: Path) -> None:
    settings = parts.settings_for(str(tmp_path), SETTINGS)
    with Herd() as herd, Runtime("witness", settings=settings) as witness:
        pid = herd.start(parts.end_while_threads_wait, folder=tmp_path, settings=SETTINGS, count=3)
        herd.until(lambda: waiting(witness) == 3)
        herd.tell(pid)
        assert herd.end(pid) == 0
        assert names(witness) == ["witness"]
