"""Hundreds of processes killed at any moment: what they held comes back, and nothing is ever granted too often."""

from __future__ import annotations

import random
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from tests.looking import names
from tests.processes import runtime_log as log, runtime_parts as parts
from tests.processes.runtime_herd import Herd
from tests.stores.redis_server import serving

from cross_instance import Runtime
from cross_instance.rules.operations import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 200
WORKERS = 8
SLOTS = {"one": 1, "three": 3}
RATE, BURST = 6_000, 20
PROVIDERS = [*SLOTS, "rate"]
SETTINGS: dict[str, Any] = {
    "total_max_llm": 5,
    "providers": {
        **{name: {**parts.PLENTY, "concurrency": slots} for name, slots in SLOTS.items()},
        "rate": {"requestsPerMinute": RATE, "burst": BURST},
    },
}
"""Accounts whose waiters wait for others, and one whose first waiter waits for time to pass."""
MOMENTS = ("joining", "asking", "granted", "ending", "leaving")


class Storm:
    """Workers that are killed and replaced, half of them under the same name at once, as a supervisor does."""

    def __init__(self, herd: Herd, folder: Path, settings: dict[str, Any], seed: int) -> None:
        self.herd = herd
        self.settings = settings
        self.folder = folder
        self.chance = random.Random(seed)
        self.killed: dict[int, int] = {}
        self.names: dict[int, str | None] = {}
        self.delays: list[int] = []
        """From each kill until a permit of each account was granted to somebody else; µs."""

    def start(self, name: str | None) -> None:
        part = self.chance.choice([parts.storm, parts.storm, parts.storm_async])
        seed = self.chance.randrange(1 << 30)
        pid = self.herd.start(
            part, folder=self.folder, settings=self.settings, name=name, seed=seed, providers=PROVIDERS
        )
        self.names[pid] = name

    def kill_some(self) -> None:
        """Kill one to four at a random moment of their lives, and see that the others go on."""
        herd, chance = self.herd, self.chance
        herd.hear_more(chance.randrange(1, 40))
        victims = {self._victim() for _ in range(chance.randrange(1, 5))}
        since = len(herd.events)
        at = herd.kill(*victims)
        self.killed |= dict.fromkeys(victims, at)
        for victim in victims:
            self.start(self.names[victim])
        for provider in PROVIDERS:
            self.delays.append(self._first_grant(provider, since, at) - at)

    def _victim(self) -> int:
        last = {event.pid: event.word for event in self.herd.events[-400:]}
        moment = self.chance.choice(MOMENTS)
        living = sorted(self.herd.living)
        return self.chance.choice([pid for pid in living if last.get(pid) == moment] or living)

    def _first_grant(self, provider: str, since: int, at: int) -> int:
        """When a permit of an account was first granted after a kill, to one whom it did not hit."""

        def granted() -> list[int]:
            return [
                event.at
                for event in self.herd.events[since:]
                if event.word == "granted" and event.rest[0] == provider and event.pid in self.herd.living
            ]

        self.herd.until(lambda: any(when > at for when in granted()))
        return min(when for when in granted() if when > at)

    def kill_all(self) -> None:
        living = list(self.herd.living)
        self.killed |= dict.fromkeys(living, self.herd.kill(*living))


def test_killed_at_any_moment(tmp_path: Path) -> None:
    assert kill_at_any_moment(tmp_path, SETTINGS, KILLS) >= KILLS


def test_killed_at_any_moment_on_redis(tmp_path: Path) -> None:
    with serving() as server:
        killed = kill_at_any_moment(tmp_path, SETTINGS | {"store": server.url()}, KILLS // 4)
    assert killed >= KILLS // 4


def kill_at_any_moment(folder: Path, settings: dict[str, Any], kills: int) -> int:
    """Kill so many, and hold what the others said of their permits against every limit; how many were killed."""
    loaded = parts.settings_for(str(folder), {**settings, "heartbeat_interval_ms": 200})
    with Herd() as herd, Runtime("witness", settings=loaded) as witness:
        storm = Storm(herd, folder, settings, seed=1)
        for place in range(WORKERS):
            storm.start(f"worker-{place}" if place % 2 else None)
        herd.hear("granted", count=20)
        while len(storm.killed) < kills:
            storm.kill_some()
        storm.kill_all()
        herd.until(lambda: names(witness) == ["witness"])
        with witness.permit("one", "m-1"), witness.permit("three", "m-1"):
            world = witness.run(Snapshot())
        herd.hear_out()
        complaints = herd.complaints()
    held = log.uses(herd.events, storm.killed)
    report(storm, held)
    assert sum(node.held for node in world.nodes) == 4, "two permits, each also at the cluster"
    assert sum(node.waiting for node in world.nodes) == 0
    assert log.most_at_once(held) <= 5
    for provider, slots in SLOTS.items():
        assert log.most_at_once([use for use in held if use.provider == provider]) <= slots
    assert log.worst_excess([use for use in held if use.provider == "rate"], BURST, RATE / 60) <= 0
    assert "joins anew" not in complaints, "one that lived was taken for dead"
    return len(storm.killed)


def report(storm: Storm, held: list[log.Use]) -> None:
    milliseconds = sorted(delay / 1000 for delay in storm.delays)
    cuts = quantiles(milliseconds, n=100)
    print(
        f"{len(storm.killed)} killed, {len(held)} permits; until the others went on: p50 {cuts[49]:.0f} ms, "
        f"p90 {cuts[89]:.0f} ms, p99 {cuts[98]:.0f} ms, longest {milliseconds[-1]:.0f} ms"
    )
