"""Work that is all one process's moves to those that are idle; and where there is none, nobody keeps looking."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.processes import runtime_parts as parts, task_parts
from tests.processes.runtime_herd import Herd

from cross_instance import Runtime
from cross_instance.tasks.pace import FIRST_LOOK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.runtime_herd import Event

LADEN, *IDLE = WORKERS = [f"worker-{number}" for number in range(4)]
LENGTHS = [0.01, 0.02, 0.01, 0.08, 0.01, 0.03, 0.15, 0.02] * 8
"""Seconds of each task: together 2.6 s, far more than the three idle ones need to come and take some."""
SETTINGS: dict[str, Any] = {"heartbeat_interval_ms": 100, "heartbeat_timeout_ms": 60_000}
BEATS = 20
"""Heartbeats of each process for which the rest is watched."""


def test_uneven_work_is_shared_and_at_rest_nobody_looks_for_more(tmp_path: Path) -> None:
    with Herd() as herd, Runtime("tester", settings=parts.settings_for(str(tmp_path), SETTINGS)) as runtime:
        pids = [
            herd.start(task_parts.serve_told, folder=tmp_path, settings=SETTINGS, name=name, concurrency=1)
            for name in WORKERS
        ]
        until_idle(herd, pids, done=0)
        handles = runtime.submit_many("effect", [(seconds,) for seconds in LENGTHS], queue=LADEN)
        for handle in handles:
            handle.result(timeout=60)
        did = Counter(handle.status().attempts[-1].instance_id for handle in handles)
        assert set(did) == set(WORKERS), "everybody worked"
        moved = moves(runtime)
        assert moved == {(name, LADEN): did[name] for name in IDLE}, "each task moved once, and nothing moved back"
        until_idle(herd, pids, done=len(LENGTHS))
        watch_the_rest_of(herd, pids)
        assert moves(runtime) == moved


def moves(runtime: Runtime) -> dict[tuple[str, str], int]:
    """How many tasks each has taken from whom."""
    return {(steal.thief, steal.victim): steal.tasks for steal in runtime.tasks.summary().steals if steal.victim}


def asked(events: list[Event], pid: int) -> list[str]:
    """What a process has asked its store for."""
    return [event.rest[0] for event in events if event.word == "op" and event.pid == pid]


def until_idle(herd: Herd, pids: list[int], *, done: int) -> None:
    """Listen until so many tasks were done, and each worker has told of their ends and asked for more work since."""

    def is_idle(pid: int) -> bool:
        words = [event.rest[0] if event.word == "op" else event.word for event in herd.events if event.pid == pid]
        return [word for word in words if word in {"did", "Finish", "Claim"}][-1:] == ["Claim"]

    herd.until(lambda: sum(event.word == "did" for event in herd.events) == done and all(map(is_idle, pids)))


def watch_the_rest_of(herd: Herd, pids: list[int]) -> None:
    """Watch all for some heartbeats: looks for work come ever later, so there are few; there is no other traffic."""
    since = len(herd.events)
    herd.until(lambda: all(asked(herd.events[since:], pid).count("Heartbeat") >= BEATS for pid in pids))
    watched = [event for event in herd.events[since:] if event.word == "op"]
    lasted = max(event.at for event in watched) - min(event.at for event in watched)
    most = math.ceil(math.log2(lasted / (FIRST_LOOK / 2) + 1)) + 1
    for pid in pids:
        operations = Counter(asked(watched, pid))
        assert operations.pop("Claim", 0) <= most
        assert operations.keys() <= {"Heartbeat", "Sweep"}, operations
