"""Real processes, in a folder and on a server: what each is told of the others, and what comes of one that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.stores.redis_server import Server

PROGRAM = Path(__file__).with_name("member.py")
DEADLINE = 60.0
"""Seconds until a test gives up."""


class Member:
    """A registered process; what is called on it, it calls, and gives its answer."""

    def __init__(self, folder: Path, name: str, **variables: str) -> None:
        self.name = name
        environment = {
            "PI_RUNTIME_DIR": str(folder / "runtime"),
            "PI_INSTANCE_ID": name,
            "PI_HEARTBEAT_INTERVAL_MS": "30000",
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAM)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._alarm = threading.Timer(DEADLINE, self.process.kill)
        self._alarm.start()

    def tell(self, name: str, *arguments: Any) -> None:
        """Have it call a function."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What came of the next call."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.name} ended"
        return json.loads(line)["answer"]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.tell(name, *arguments)
            return self.answer()

        return call

    def end(self) -> None:
        self._alarm.cancel()
        self.process.kill()
        self.process.communicate()


Start = Callable[..., list[Member]]


@pytest.fixture(params=["folder", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The variables that say where the store is."""
    if request.param == "folder":
        return {}
    server: Server = request.getfixturevalue("server")
    return {"PI_STORE": server.url(tmp_path.name)}


@pytest.fixture
def start(tmp_path: Path, shared: dict[str, str]) -> Iterator[Start]:
    """`start("a", "b")` gives processes that have registered in this order."""
    with ExitStack() as stack:

        def made(*names: str, **variables: str) -> list[Member]:
            members = [Member(tmp_path, name, **shared, **variables) for name in names]
            for member in members:
                stack.callback(member.end)
            for member in members:
                member.register_instance(f"session-{member.name}", str(tmp_path))
            return members

        yield made


def test_counts_shares_models_and_queues_across_processes(start: Start) -> None:
    members = start("c", "größe/1", "b", PI_TOTAL_MAX_LLM="8")
    one, two, three = members
    assert [member.get_active_instance_count() for member in members] == [3, 3, 3]
    assert [info["instanceId"] for info in two.get_active_instances()] == ["c", "größe/1", "b"]
    assert [info["pid"] for info in two.get_active_instances()] == [member.process.pid for member in members]
    for member in members:
        member.set_active_model("OpenAI", "gpt-4o")
    assert [member.get_my_parallel_limit() for member in members] == [3, 3, 2]
    assert [member.get_model_parallel_limit("openai", "gpt-4o", 4) for member in members] == [2, 1, 1]
    assert three.get_model_usage_summary()["models"] == [{"provider": "openai", "model": "gpt-4o", "instanceCount": 3}]
    one.broadcast_queue_state(5, 3)
    two.broadcast_queue_state(0, 0)
    assert [(s["instanceId"], s["pendingTaskCount"]) for s in three.get_remote_queue_states()] == [
        ("c", 5),
        ("größe/1", 0),
    ]
    assert three.check_remote_capacity() is True
    assert two.check_remote_capacity() is False
    assert three.get_work_stealing_summary()["busyInstances"] == 1
    three.clear_all_active_models()
    assert three.should_attempt_work_stealing() is True
    assert three.find_steal_candidate()["instanceId"] == "c"
    assert [member.get_dynamic_parallel_limit(pending) for member, pending in zip(members, (5, 0, 0), strict=True)] == [
        7,
        1,
        1,
    ]
    two.unregister_instance()
    assert one.get_active_instance_count() == 2


def test_four_processes_rob_a_fifth_of_everything_once(start: Start) -> None:
    owner, *thieves = start("owner", "t1", "t2", "t3", "t4")
    names = [f"entry-{number}" for number in range(200)]
    assert owner.offer(names) == []
    for thief in thieves:
        thief.tell("take_all")
    taken = [name for thief in thieves for name in thief.answer()]
    assert sorted(taken) == sorted(names)
    assert sorted(owner.offer(names)) == sorted(names)
    assert [thief.take_all() for thief in thieves] == [[], [], [], []]


def test_a_killed_process_is_gone_with_its_lock_and_its_queue(start: Start) -> None:
    one, two, three = start("a", "b", "c", PI_TOTAL_MAX_LLM="9")
    for member in (one, two, three):
        member.set_active_model("openai", "gpt-4o")
    first = two.try_acquire_lock("r", 600_000)["fence"]
    two.offer(["x", "y"])
    info = one.get_active_instances()[1]
    two.process.send_signal(signal.SIGKILL)
    two.process.wait()
    assert one.get_active_instance_count() == 2
    assert [member.get_my_parallel_limit() for member in (one, three)] == [5, 4]
    one.cleanup_dead_instances()
    assert one.try_acquire_lock("r", 600_000)["fence"] > first
    assert three.steal_work() is None
    assert info["instanceId"] not in [left["instanceId"] for left in three.get_active_instances()]


def test_a_stopped_process_is_alive(start: Start) -> None:
    one, two = start("a", "b")
    two.process.send_signal(signal.SIGSTOP)
    assert one.get_active_instance_count() == 2
    one.enhanced_heartbeat()
    two.process.send_signal(signal.SIGCONT)
    assert two.get_active_instance_count() == 2


def test_a_lock_has_one_holder_among_processes(start: Start) -> None:
    members = start("a", "b", "c")
    for member in members:
        member.tell("try_acquire_lock", "größe\0/r")
    locks = [member.answer() for member in members]
    assert sum(lock is not None for lock in locks) == 1


def test_a_wall_clock_that_jumps_in_one_process_changes_nothing_for_the_others(start: Start) -> None:
    one, two, three = start("a", "b", "c", PI_TOTAL_MAX_LLM="6")
    members = (one, two, three)
    lock = one.try_acquire_lock("r", 600_000)
    for days in (400, -400):
        two.shift_the_wall_clock(days * 86_400)
        two.enhanced_heartbeat()
        two.offer(["x"])
        for member in members:
            member.set_active_model("openai", "gpt-4o")
        assert [member.get_active_instance_count() for member in members] == [3, 3, 3]
        assert [member.get_my_parallel_limit() for member in members] == [2, 2, 2]
        assert [state["instanceId"] for state in three.get_remote_queue_states()] == ["b"]
        assert [member.try_acquire_lock("r", 600_000) for member in (two, three)] == [None, None]
        assert three.take_all() == ["x"]
        assert two.offer([]) == ["x"]
    assert one.release_lock_of(lock) is True


def test_nothing_is_kept_beside_the_store_but_each_instance_s_file(
    start: Start, tmp_path: Path, shared: dict[str, str]
) -> None:
    one, two = start("a", "b")
    one.offer(["x", "y"])
    one.try_acquire_lock("r", 600_000)
    assert two.take_all() == ["x", "y"]
    folder = tmp_path / "runtime"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    of_the_store = {name for name in files if name.startswith(("gate-", "wake-", "durable-", "coordination-"))}
    assert not (shared and of_the_store)
    stamps = {name for name in files if name.startswith("instances/.looked-")}  # when a look for the dead was, no more
    told = {name for name in files if name.startswith("events/")}  # what was told, for whoever wants to hear it
    assert files - of_the_store - stamps - told == {"instances/a.lock", "instances/b.lock"}
