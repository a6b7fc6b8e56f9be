"""Workers killed all the time: no task is lost, none is finished twice, none has two owners at once.

The log of fenced effects is judged as in `python -m bench --only task-storm`, which plays a whole minute of it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from bench.effects import BEGAN, DID, Effect, Judgement, judge
from tests.processes import runtime_parts as parts, task_parts
from tests.processes.runtime_herd import Herd

from cross_instance import Runtime
from cross_instance.rules.operations import TaskState

if TYPE_CHECKING:
    from pathlib import Path

WORKERS, TASKS, KILLS = 8, 1_500, 9
"""Two workers are killed so many times, each time after a tenth of the tasks."""
SETTINGS: dict[str, Any] = {}


class Storm:
    """Workers of both kinds, sync and asyncio, which are killed and replaced."""

    def __init__(self, herd: Herd, folder: Path, seed: int) -> None:
        self.killed: dict[int, int] = {}
        self._herd = herd
        self._folder = folder
        self._chance = random.Random(seed)
        self._workers = [self._start() for _ in range(WORKERS)]

    def _start(self) -> int:
        part = self._chance.choice(task_parts.SERVERS)
        return self._herd.start(part, folder=self._folder, settings=SETTINGS, name=f"worker-{self._chance.random()}")

    def kill_two(self) -> None:
        dying = [self._workers.pop(self._chance.randrange(len(self._workers))) for _ in range(2)]
        at = self._herd.kill(*dying)
        self.killed |= dict.fromkeys(dying, at)
        self._workers += [self._start() for _ in dying]

    def effects(self) -> list[Effect]:
        said = [event for event in self._herd.events if event.word in {BEGAN, DID}]
        return [Effect(event.word, event.pid, event.at, event.rest[0], int(event.rest[1])) for event in said]


def test_killing_workers_loses_nothing_and_makes_no_second_owner(tmp_path: Path) -> None:
    with Herd() as herd, Runtime("tester", settings=parts.settings_for(str(tmp_path), SETTINGS)) as runtime:
        storm = Storm(herd, tmp_path, seed=4)
        handles = runtime.submit_many("effect", [(0.005,)] * TASKS, queue="", max_deaths=100)
        for turn in range(1, KILLS + 1):
            herd.hear(DID, count=turn * TASKS // 10)
            storm.kill_two()
        for handle in handles:
            handle.result(timeout=60)
        herd.hear_out()
        found = [handle.status() for handle in handles]
    judgement = judge(storm.effects(), storm.killed, {handle.task for handle in handles})
    print(judgement)
    assert len(storm.killed) == 2 * KILLS
    assert {status.state for status in found} == {TaskState.DONE}
    finished = [past for status in found for past in status.attempts if past.outcome == "done"]
    assert len(finished) == TASKS, "each was finished once"
    assert judgement == Judgement(lost=0, two_owners=0, stale=0, begun_again=judgement.begun_again)


FIRST, SECOND = Effect(BEGAN, 1, 10, "a", 1), Effect(BEGAN, 2, 30, "a", 2)
DONE = Effect(DID, 2, 40, "a", 2)


@pytest.mark.parametrize(
    ("effects", "killed", "judgement"),
    [
        ([FIRST, Effect(DID, 1, 20, "a", 1)], {}, Judgement(0, 0, 0, 0)),
        ([FIRST, SECOND, DONE], {1: 30}, Judgement(0, 0, 0, 1)),
        ([FIRST, SECOND, DONE], {1: 31}, Judgement(0, 1, 0, 1)),
        ([FIRST, SECOND, DONE], {}, Judgement(0, 1, 0, 1)),
        ([FIRST, SECOND._replace(epoch=1), DONE], {1: 20}, Judgement(0, 1, 0, 1)),
        ([FIRST, SECOND, Effect(DID, 1, 31, "a", 1), DONE], {1: 30}, Judgement(0, 0, 1, 1)),
        ([FIRST], {1: 20}, Judgement(1, 0, 0, 0)),
    ],
)
def test_a_log_that_breaks_the_law_is_seen(effects: list[Effect], killed: dict[int, int], judgement: Judgement) -> None:
    assert judge(effects, killed, {"a"}) == judgement
