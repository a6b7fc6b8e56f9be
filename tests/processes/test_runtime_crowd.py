"""Many processes that join, leave and die at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.looking import names, waiting
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd

from cross_instance import Runtime
from cross_instance.rules.operations import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

CROWD = 40
THOUSANDS = 2_000
SETTINGS = parts.account(CROWD)


def joined_at_once(herd: Herd, folder: Path, count: int) -> list[int]:
    """So many processes that hold a permit each, having joined at one moment."""
    members = [herd.start(parts.member, folder=folder, settings=SETTINGS) for _ in range(count)]
    for member in members:
        herd.hear("ready", member)
    for word in ("joined", "took"):
        begun = time.monotonic()
        for member in members:
            herd.tell(member)
        for member in members:
            herd.hear(word, member)
        print(f"{count} processes {word} at once in {time.monotonic() - begun:.2f} s")
    return members


def test_many_join_and_leave_at_once(tmp_path: Path, herd: Herd) -> None:
    with Runtime("witness", settings=parts.settings_for(str(tmp_path), SETTINGS)) as witness:
        members = joined_at_once(herd, tmp_path, CROWD)
        incarnations = [int(event.rest[0]) for event in herd.events if event.word == "joined"]
        assert len(set(incarnations)) == CROWD
        world = witness.run(Snapshot())
        assert sorted(instance.incarnation for instance in world.instances) == sorted(
            [witness.incarnation, *incarnations]
        )
        assert sum(instance.held for instance in world.instances) == CROWD
        for member in members:
            herd.tell(member)
        assert [herd.end(member) for member in members] == [0] * CROWD
        assert names(witness) == ["witness"]


def test_many_are_killed_at_once(tmp_path: Path, herd: Herd) -> None:
    with Runtime("witness", settings=parts.settings_for(str(tmp_path), SETTINGS)) as witness:
        members = joined_at_once(herd, tmp_path, CROWD)
        at = herd.kill(*members)
        permits = [witness.permit("acme", "m-1").acquire() for _ in range(CROWD)]
        print(f"{CROWD} permits of the killed were back after {(parts.now() - at) / 1000:.0f} ms")
        assert names(witness) == ["witness"]
        for permit in permits:
            permit.close()


def test_a_process_is_killed_with_thousands_waiting_in_it(tmp_path: Path, herd: Herd) -> None:
    with Runtime("witness", settings=parts.settings_for(str(tmp_path), SETTINGS)) as witness:
        permits = [witness.permit("acme", "m-1").acquire() for _ in range(CROWD)]
        crowd = herd.start(parts.queue_up, folder=tmp_path, settings=SETTINGS, count=THOUSANDS)
        herd.until(lambda: waiting(witness) == THOUSANDS)
        waiter = herd.start(parts.puppet, folder=tmp_path, settings=SETTINGS)
        herd.tell(waiter, "take acme")
        herd.until(lambda: waiting(witness) == THOUSANDS + 1)
        herd.kill(crowd)
        herd.until(lambda: waiting(witness) == 1)
        permits.pop().close()
        herd.hear("took", waiter)
        assert waiting(witness) == 0
        for permit in permits:
            permit.close()
