"""The embedded store between real processes: killed, stopped, interrupted, forked, out of room; and woken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.processes import embedded_program as program

from cross_instance.errors import StoreBusy
from cross_instance.rules.operations import Acquire, Granted, Lock, Settle, Snapshot
from cross_instance.stores import database, folder as folders
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore

Start = Callable[..., "subprocess.Popen[str]"]
PROGRAM = Path(program.__file__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(folder)
    yield store
    store.close()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(part: Callable[..., object], *arguments: object, where: Path = folder) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAM), part.__name__, str(where), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Everything a process still says; it must end well."""
    said, _ = process.communicate()
    assert process.returncode == 0
    return said.splitlines()


def await_stop(process: subprocess.Popen[str]) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


# --- the gate --------------------------------------------------------------------------------------------------


def test_a_stopped_holder_is_named_and_others_go_on_when_it_does(folder: Path, start: Start) -> None:
    store = EmbeddedStore(folder, patience=0.2)
    holder = start(program.stop_inside)
    await_stop(holder)
    with pytest.raises(StoreBusy, match=rf"kill -CONT {holder.pid}") as caught:
        store.run(Snapshot())
    assert caught.value.pid == holder.pid
    holder.send_signal(signal.SIGCONT)
    assert finish(holder) == ["done"]
    assert store.run(Snapshot()).instances == ()
    store.close()


def test_an_event_loop_goes_on_while_the_gate_is_shut(folder: Path, start: Start) -> None:
    async def main() -> None:
        patient, impatient = AsyncEmbeddedStore(folder, patience=600), AsyncEmbeddedStore(folder, patience=0.2)
        holder = start(program.stop_inside)
        await_stop(holder)
        refused = [asyncio.ensure_future(impatient.run(Snapshot())) for _ in range(20)]
        waiting = asyncio.ensure_future(patient.run(Snapshot()))
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreBusy] * 20
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done(), "the loop takes its turns meanwhile"
        holder.send_signal(signal.SIGCONT)
        assert (await waiting).instances == ()
        for store in (patient, impatient):
            await store.close()

    asyncio.run(main())


def test_ctrl_c_works_at_the_gate(store: EmbeddedStore, start: Start) -> None:
    waiter = start(program.wait_at_the_gate)
    assert line(waiter) == "ready"
    holder = start(program.stop_inside)
    await_stop(holder)
    assert waiter.stdin is not None
    print(file=waiter.stdin, flush=True)
    assert line(waiter) == "waiting"
    waiter.send_signal(signal.SIGINT)
    assert finish(waiter) == ["interrupted"]


def test_a_holder_that_is_killed_opens_the_gate(store: EmbeddedStore, start: Start) -> None:
    holder = start(program.stop_inside)
    await_stop(holder)
    holder.kill()
    holder.wait()
    assert store.run(Snapshot()).instances == ()


def test_ctrl_c_at_any_moment_leaves_the_gate_open(start: Start) -> None:
    assert finish(start(program.be_interrupted_often, 500)) == ["done"]


# --- kill ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_killed_while_writing_leave_nothing_torn(start: Start, seed: int) -> None:
    assert finish(start(program.be_killed_often, 120, seed)) == ["done"]


# --- fork ------------------------------------------------------------------------------------------------------


def test_a_forked_child_opens_its_own_and_disturbs_nobody(start: Start) -> None:
    assert finish(start(program.fork_often, 20)) == ["done"]


def test_a_forked_child_does_not_keep_the_gate_of_its_dead_parent(store: EmbeddedStore, start: Start) -> None:
    parent = start(program.fork_and_die_inside)
    child = int(line(parent).removeprefix("child "))
    assert parent.wait() == -signal.SIGKILL
    try:
        assert [instance.instance_id for instance in store.run(Snapshot()).instances] == ["parent"]
    finally:
        os.kill(child, signal.SIGKILL)


# --- room ------------------------------------------------------------------------------------------------------


def test_maps_grow_across_processes(folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FIRST_SIZE", 1 << 18)
    store = EmbeddedStore(folder)
    incarnation = program.join(store, "first")
    assert finish(start(program.take_locks, 0, 2_000)) == ["locks 2000"]
    assert len(store.run(Snapshot()).locks) == 2_000
    for n in range(2_000, 4_000):
        store.run(Lock(incarnation, f"{n:0200}", "token", program.LONG))
    assert finish(start(program.take_locks, 4_000, 2_000)) == ["locks 6000"]
    assert len(store.run(Snapshot()).locks) == 6_000
    assert folders.coordination_path(folder).stat().st_size >= 1 << 20
    store.close()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_full_disk_is_told_and_loses_nothing(start: Start, in_place: bool) -> None:
    (said,) = finish(start(program.fill_the_disk, in_place))
    assert int(said.removeprefix("full after ")) > 100


def test_a_full_disk_under_the_durable_file_is_told_and_loses_nothing(start: Start) -> None:
    assert finish(start(program.fill_the_durable_file)) == ["done"]


def test_a_folder_that_cannot_be_written_is_told(start: Start) -> None:
    with TemporaryDirectory() as base:
        Path(base).chmod(0o711)  # the process becomes another user, who must get to the folder
        where = Path(base) / "read-only"
        where.mkdir()
        said = finish(start(program.use_a_read_only_folder, where=where))
    assert ["Permission denied" in text for text in said] == [True] * 3
    assert "PI_RUNTIME_DIR" in said[0]


# --- wake-ups --------------------------------------------------------------------------------------------------


def test_who_frees_a_slot_wakes_the_next_in_another_process(store: EmbeddedStore, start: Start) -> None:
    incarnation = program.join(store, "holder")
    revision = program.publish(store, incarnation, 1)
    assert isinstance(store.run(Acquire(incarnation, 1, program.ACCOUNT, revision=revision)), Granted)
    waiter = start(program.wait_for_a_slot)
    number = line(waiter).removeprefix("waiting ")
    store.run(Settle(incarnation, 1))
    assert line(waiter) == f"woken {number} 1"
    assert line(waiter) == "granted"


def test_a_wake_for_a_dead_process_is_dropped_and_its_link_removed(
    store: EmbeddedStore, folder: Path, start: Start
) -> None:
    incarnation = program.join(store, "holder")
    revision = program.publish(store, incarnation, 1)
    store.run(Acquire(incarnation, 1, program.ACCOUNT, revision=revision))
    waiter = start(program.wait_for_a_slot)
    link = folder / folders.WAKE / line(waiter).removeprefix("waiting ")
    assert link.is_symlink()
    waiter.kill()
    waiter.wait()
    assert store.run(Settle(incarnation, 1)).wakes
    assert not link.is_symlink()
