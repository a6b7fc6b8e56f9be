"""Many tasks submitted together, in a folder and on a server: all are kept, in their order, in steps of a hundred.

That a step costs the same however many are there is held by `tests/rules/test_tasks.py` for the rules, and here
for the server's scripts; `python -m bench --only task-bulk` submits 100,000.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import settings_in

from cross_instance import Runtime
from cross_instance.rules.operations import (
    Claim,
    Claimed,
    Finish,
    Join,
    Joined,
    NewTask,
    Push,
    TaskEnd,
    TaskState,
)
from cross_instance.stores.redis.store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis
    from tests.stores.redis_server import Server

    from cross_instance.rules.operations import Operation, Result

MANY = 5_000


@pytest.fixture(params=["folder", "redis"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    settings = settings_in(tmp_path)
    if request.param == "redis":
        server: Server = request.getfixturevalue("server")
        settings = settings_in(tmp_path, store=server.socket_url())
    with Runtime("w", settings=settings) as runtime:
        yield runtime


def test_all_that_are_submitted_together_are_kept_in_their_order(runtime: Runtime) -> None:
    handles = runtime.submit_many("note", ((number,) for number in range(MANY)), key=lambda number: f"key {number}")
    assert dict(runtime.tasks.summary().states) == {TaskState.QUEUED: MANY}
    found = runtime.tasks.find("queued", most=MANY + 1)
    assert [task.task for task in found] == [handle.task for handle in handles]
    assert [task.key for task in found] == [f"key {number}" for number in range(MANY)]
    again = runtime.submit_many("note", ((number,) for number in range(300)), key=lambda number: f"key {number}")
    assert [handle.task for handle in again] == [handle.task for handle in handles[:300]]
    assert all(handle.existed for handle in again)


def commands(client: redis.Redis, store: RedisStore, op: Operation[Result]) -> int:
    """How many commands the server carries out for an operation, those of its script among them."""
    client.config_resetstat()
    store.run(op)
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if "config" not in name)


def commands_of_each(client: redis.Redis, store: RedisStore, incarnation: int, tasks: int) -> list[int]:
    """What the last push of so many tasks takes, a claim, and the end of what it gave."""
    pushes = [
        Push(tuple(NewTask(f"{tasks}-{start + number}", "kind", b"payload") for number in range(100)))
        for start in range(0, tasks, 100)
    ]
    counts = [commands(client, store, push) for push in pushes][-1:]
    claim = Claim(incarnation, tasks, 8)
    counts.append(commands(client, store, claim))
    claimed = store.run(claim)
    assert isinstance(claimed, Claimed)
    assert len(claimed.tasks) == 8
    ends = tuple(TaskEnd(task.spec.task, task.epoch) for task in claimed.tasks)
    return [*counts, commands(client, store, Finish(incarnation, ends))]


def test_a_server_s_commands_do_not_grow_with_the_queue(server: Server, client: redis.Redis) -> None:
    with closing(RedisStore(server.url())) as store:
        joined = store.run(Join("w", "nonce", pid=1, machine="here", host="here"))
        assert isinstance(joined, Joined)
        few = commands_of_each(client, store, joined.incarnation, 100)
        many = commands_of_each(client, store, joined.incarnation, MANY)
        assert all(later <= earlier for later, earlier in zip(many, few, strict=True)), (few, many)
