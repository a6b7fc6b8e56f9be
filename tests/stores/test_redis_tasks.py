"""Tasks at a real server, in real processes: none is lost, none is finished twice, whoever waits is woken."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.processes import runtime_parts as parts, task_parts
from tests.processes.runtime_herd import Herd
from tests.stores.redis_server import Server, serving

from cross_instance import AsyncRuntime, Runtime
from cross_instance.errors import StoreFull
from cross_instance.rules.operations import (
    CancelTask,
    Claim,
    Claimed,
    Finish,
    Finished,
    GetTask,
    Join,
    Joined,
    NewTask,
    Push,
    Sweep,
    TaskEnd,
    TaskState,
)
from cross_instance.stores.redis.store import RedisStore

PROVIDERS: dict[str, Any] = {"acme": parts.PLENTY}
PATIENCE = 30.0
"""Seconds after which a wake that does not come is missing."""


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd() as herd:
        yield herd


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> dict[str, Any]:
    return {"providers": PROVIDERS, "store": server.url(tmp_path.name)}


@pytest.fixture
def runtime(tmp_path: Path, settings: dict[str, Any]) -> Iterator[Runtime]:
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), settings)) as runtime:
        yield runtime


# --- processes -----------------------------------------------------------------------------------------------------


def test_killed_workers_lose_nothing_and_finish_nothing_twice(
    tmp_path: Path, settings: dict[str, Any], herd: Herd, runtime: Runtime
) -> None:
    chance, killed = random.Random(4), dict[int, int]()

    def start() -> int:
        part = task_parts.SERVERS[len(herd.living) % 2]
        return herd.start(part, folder=tmp_path, settings=settings, name=f"worker-{chance.random()}")

    workers = [start() for _ in range(4)]
    for pid in workers:
        herd.hear("joined", pid)
    handles = runtime.submit_many("effect", [()] * 400, queue="", max_deaths=100)
    for turn in range(1, 5):
        herd.hear("did", count=60 * turn)
        dying = workers.pop(chance.randrange(len(workers)))
        killed[dying] = herd.kill(dying)
        workers.append(start())
    results = [handle.result(timeout=60) for handle in handles]
    herd.hear_out()
    print(f"{sum(result > 1 for result in results)} of {len(results)} tasks had to begin again")
    statuses = [handle.status() for handle in handles]
    assert {status.state for status in statuses} == {TaskState.DONE}
    for handle in handles:
        begun = [event for event in herd.events if event.word == "began" and event.rest[0] == handle.task]
        for before, after in pairwise(begun):
            assert int(after.rest[1]) > int(before.rest[1]), "epochs rise"
            assert after.at >= killed[before.pid], "only after its owner's death does another one own it"
    done = [past for status in statuses for past in status.attempts if past.outcome == "done"]
    assert len(done) == len(handles), "each was finished once"


def test_the_idle_take_over_the_work_of_one(
    tmp_path: Path, settings: dict[str, Any], herd: Herd, runtime: Runtime
) -> None:
    laden, *idle = names = ["laden", "idle-1", "idle-2"]
    for name in names:
        herd.hear("joined", herd.start(task_parts.serve, folder=tmp_path, settings=settings, name=name, concurrency=1))
    handles = runtime.submit_many("effect", [(0.05,)] * 60, queue=laden)
    for handle in handles:
        handle.result(timeout=60)
    did = Counter(handle.status().attempts[-1].instance_id for handle in handles)
    moved = {(steal.thief, steal.victim): steal.tasks for steal in runtime.tasks.summary().steals if steal.victim}
    assert set(did) == set(names), "everybody worked"
    assert moved == {(name, laden): did[name] for name in idle}, "each task moved once, and nothing moved back"


# --- one process ---------------------------------------------------------------------------------------------------


def test_two_runtimes_of_a_process_share_the_work(settings: dict[str, Any], tmp_path: Path, runtime: Runtime) -> None:
    done: list[str] = []

    def life() -> None:
        with Runtime("worker", settings=parts.settings_for(str(tmp_path), settings)) as other:
            other.task("note")(done.append)
            other.work(2, until_idle=True)

    handles = runtime.submit_many("note", [("a",), ("b",), ("c",)], queue="worker")
    worker = threading.Thread(target=life)
    worker.start()
    for handle in handles:
        handle.result(timeout=PATIENCE)
    worker.join()
    assert sorted(done) == ["a", "b", "c"]


def test_an_event_loop_submits_works_and_waits(settings: dict[str, Any], tmp_path: Path) -> None:
    async def main() -> list[int]:
        async with AsyncRuntime("both", settings=parts.settings_for(str(tmp_path), settings)) as runtime:

            @runtime.task("twice")
            async def twice(number: int) -> int:
                return 2 * number

            work = asyncio.create_task(runtime.work(4))
            handles = await runtime.submit_many("twice", [(number,) for number in range(20)])
            results = [await handle.result(timeout=PATIENCE) for handle in handles]
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return results

    assert asyncio.run(main()) == [2 * number for number in range(20)]


# --- wakes ---------------------------------------------------------------------------------------------------------


def joined(store: RedisStore, name: str) -> int:
    answer = store.run(Join(name, f"{name}/nonce", pid=1, machine="here", host="here"))
    assert isinstance(answer, Joined)
    return answer.incarnation


def claimed(store: RedisStore, incarnation: int, seq: int) -> Claimed:
    answer = store.run(Claim(incarnation, seq))
    assert isinstance(answer, Claimed)
    return answer


def test_whoever_waits_is_woken_from_another_process(server: Server, tmp_path: Path) -> None:
    """An idle worker by a task, an owner by its cancellation, a watcher by the end: over pub/sub, as hints are."""
    url, other_url = server.url(tmp_path.name), server.socket_url(tmp_path.name)
    with closing(RedisStore(url)) as here, closing(RedisStore(other_url)) as there:
        me, other = joined(here, "me"), joined(there, "other")
        assert claimed(here, me, 1).tasks == ()
        there.run(Push((NewTask("one", "kind"),)))
        assert here.wait((me, 1), PATIENCE) is not None, "there is work"
        (task,) = claimed(here, me, 2).tasks
        there.run(GetTask("one", watcher=(other, 7)))
        there.run(CancelTask("one"))
        assert here.wait((me, 2), PATIENCE) is not None, "its end is asked for"
        ended = here.run(Finish(me, (TaskEnd("one", task.epoch),)))
        assert isinstance(ended, Finished)
        assert there.wait((other, 7), PATIENCE) is not None, "it is over"


# --- faults --------------------------------------------------------------------------------------------------------


def test_a_server_that_syncs_every_write_loses_no_task() -> None:
    """Killed in the middle of everything and started again: what was submitted is there, what ran is ready again."""
    with (
        serving("--appendonly", "yes", "--appendfsync", "always") as server,
        closing(RedisStore(server.url())) as store,
    ):
        me = joined(store, "me")
        store.run(Push(tuple(NewTask(f"t{number}", "kind", b"payload") for number in range(50))))
        (first,) = claimed(store, me, 1).tasks
        finished = store.run(Finish(me, (TaskEnd(first.spec.task, first.epoch, result=b"result"),)))
        assert isinstance(finished, Finished)
        (second,) = claimed(store, me, 2).tasks
        server.kill()
        server.start()
        done = store.run(GetTask(first.spec.task)).info
        assert done is not None
        assert (done.state, done.result) == (TaskState.DONE, b"result")
        running = store.run(GetTask(second.spec.task)).info
        assert running is not None
        assert (running.state, running.epoch) == (TaskState.RUNNING, second.epoch), "its owner lives"
        store.run(Sweep((me,)))
        again = joined(store, "again")
        tasks = [task.spec.task for seq in range(1, 51) for task in claimed(store, again, seq).tasks]
        assert sorted(tasks) == sorted({f"t{number}" for number in range(50)} - {first.spec.task})


def test_a_full_server_refuses_a_task(server: Server, tmp_path: Path) -> None:
    with closing(RedisStore(server.url(tmp_path.name))) as store, server.client() as client:
        me = joined(store, "me")
        store.run(Push((NewTask("one", "kind"),)))
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreFull):
                store.run(Push((NewTask("two", "kind"),)))
            (task,) = claimed(store, me, 1).tasks
            assert isinstance(store.run(Finish(me, (TaskEnd("one", task.epoch),))), Finished)
        finally:
            client.config_set("maxmemory", 0)
        assert store.run(GetTask("two")).info is None
