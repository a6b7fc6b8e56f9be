"""A reserve that is written into the file of settings of running processes: the critical worker passes a long queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import Target

from cross_instance.events import CONFIG_RELOADED
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.testing.provider import Constant, Limit, ProviderConfig, ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

PER_MINUTE, BURST = 120, 4
LATE = 10
"""Requests of half a second: how much a busy machine may delay one between its permit and its arrival."""
BACKGROUND = [f"background-{number}" for number in range(20)]
EACH = 20
"""Calls that each of them wants at once: together they need more than three minutes."""
CALLS = 8
"""Of the critical worker, one after the other: seconds with its reserve; as one of 21 equals more than a minute."""
INSTANCES = {"critical-worker": {"priority": 10, "reservedCapacity": 100}}


def write(folder: Path, **section: Any) -> None:
    (folder / ".pi").mkdir(exist_ok=True)
    account = {"requestsPerMinute": PER_MINUTE, "burst": BURST}
    section |= {"runtimeDir": "runtime", "providers": {"openai": account}}
    (folder / ".pi" / "config.json").write_text(json.dumps({"crossInstance": section}))


def test_a_reserve_given_to_a_running_process_takes_it_past_all_who_wait(tmp_path: Path) -> None:
    write(tmp_path)
    limit = Limit("requests", PER_MINUTE, burst=BURST + LATE)
    with ProviderServer(ProviderConfig(limits=(limit,), latency=Constant(0.02))) as server, Herd() as herd:
        target = Target("openai", "default", "gpt-4o", f"{server.url}/v1/chat/completions")
        others = herd.start(
            parts.follow_files, folder=tmp_path, names=BACKGROUND, target=target, times=EACH, at_once=True
        )
        critical = herd.start(
            parts.follow_files,
            folder=tmp_path,
            names=list(INSTANCES),
            target=target,
            times=CALLS,
            at_once=False,
            heartbeat_ms=100,
        )
        herd.hear("ready", critical)
        herd.hear("ready", others)
        store = EmbeddedStore(tmp_path / "runtime")
        try:

            def waiting() -> int:
                return sum(instance.waiting for instance in store.run(Snapshot()).instances)

            herd.tell(others)
            herd.until(lambda: waiting() > 0.75 * len(BACKGROUND) * EACH)
            write(tmp_path, instances=INSTANCES)
            herd.hear(CONFIG_RELOADED, critical)
            herd.tell(critical)
            herd.hear("answered", critical, count=CALLS)
            left = waiting()
        finally:
            store.close()
        seen = server.statistics()
    assert left > 0.5 * len(BACKGROUND) * EACH, "who asked long before still waits"
    assert {event.rest[1] for event in herd.events if event.word == "answered"} == {"200"}
    assert seen.rejections == {}
