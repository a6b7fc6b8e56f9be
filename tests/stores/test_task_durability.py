"""Law 10: a submitted task survives the death of every process and a power cut.

The disk after a power cut is made from a trace of system calls: it holds what was synced, and nothing else.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import pytest
from tests.stores import submitting_program as program
from tests.stores.members import join

from cross_instance.rules.operations import (
    CancelTask,
    Claim,
    Claimed,
    Finish,
    Finished,
    GetTask,
    NewTask,
    Push,
    Sweep,
    TaskEnd,
    TaskInfo,
    TaskState,
)
from cross_instance.stores import folder as folders
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.stores.transaction import Transaction


def claim(store: EmbeddedStore, incarnation: int, seq: int, most: int = 1) -> list[tuple[str, int]]:
    claimed = store.run(Claim(incarnation, seq, most))
    assert isinstance(claimed, Claimed)
    return [(task.spec.task, task.epoch) for task in claimed.tasks]


def info(store: EmbeddedStore, task: str) -> TaskInfo:
    found = store.run(GetTask(task)).info
    assert found is not None
    return found


# --- a power cut -----------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """One file as a trace of system calls tells it: `synced` is what a power cut leaves."""

    written: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    places: dict[str, int] = field(default_factory=dict)
    direct: set[str] = field(default_factory=set)

    def write(self, descriptor: str, data: bytes, place: int) -> None:
        self.written[place : place + len(data)] = data
        if descriptor in self.direct:
            kept = bytearray(self.synced)
            kept[place : place + len(data)] = data
            self.synced = bytes(kept)

    def sync(self) -> None:
        self.synced = bytes(self.written)


CALL = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
DATA = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def replay(lines: Iterator[str]) -> Iterator[tuple[str, bytes]]:
    """Whatever the program told, with the durable file as a power cut at that moment would leave it."""
    disk = Disk()
    for line in lines:
        match = CALL.match(line)
        if match is None:
            continue
        call, arguments, result = match[1], match[2], int(match[3])
        data = b"".join(bytes.fromhex(text.replace("\\x", "")) for text in DATA.findall(arguments))
        descriptor = arguments.split(",")[0].split("<")[0]
        if call == "write" and data.startswith(b"told "):
            yield data.decode().strip().removeprefix("told "), disk.synced
        if call == "openat" and result >= 0 and data.decode().rpartition("/")[2].startswith("durable-"):
            (disk.direct.add if "O_DSYNC" in arguments else disk.direct.discard)(str(result))
        if "durable-" not in bytes_as_text(arguments):
            continue
        if call == "lseek":
            disk.places[descriptor] = result
        elif call in ("pwrite64", "pwritev"):
            disk.write(descriptor, data, int(arguments.rpartition(", ")[2]))
        elif call in ("write", "writev"):
            disk.write(descriptor, data, disk.places[descriptor])
            disk.places[descriptor] += len(data)
        elif call in ("fdatasync", "fsync"):
            disk.sync()


def bytes_as_text(arguments: str) -> str:
    """The names of files in a call's arguments, which strace writes in hexadecimal like everything else."""
    named = re.findall(r"<((?:\\x[0-9a-f]{2})+)>", arguments)
    return " ".join([arguments, *(bytes.fromhex(name.replace("\\x", "")).decode() for name in named)])


def can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to use it")
def test_a_power_cut_after_any_answer_loses_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "openat,lseek,write,writev,pwrite64,pwritev,fdatasync,fsync"
    command = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-e", f"trace={calls}", "-o", str(trace)]
    subprocess.run([*command, sys.executable, program.__file__, str(tmp_path / "store")], check=True)
    pushed: set[str] = set()
    done: set[str] = set()
    epochs = [0]
    with trace.open() as lines:
        for number, (told, synced) in enumerate(replay(iter(lines))):
            what, *words = told.split()
            pushed.update(words if what == "pushed" else ())
            done.update(words if what == "done" else ())
            epochs.extend(map(int, words) if what == "epochs" else ())
            after_the_cut(tmp_path / str(number), synced, pushed, done, max(epochs))
    assert len(pushed) == 3 * program.ROUNDS
    assert len(done) == program.ROUNDS


def after_the_cut(folder: Path, durable: bytes, pushed: set[str], done: set[str], last_epoch: int) -> None:
    folder.mkdir(mode=0o700)
    (folder / folders.DURABLE).write_bytes(durable)
    store = EmbeddedStore(folder)
    assert {task for task in pushed if info(store, task).state is TaskState.DONE} >= done
    got = store.run(Claim(join(store, "another"), 1, most=100))
    assert isinstance(got, Claimed)
    assert {task.spec.task for task in got.tasks} | done >= pushed, "what ran is ready again, and nothing is lost"
    assert all(task.spec.payload == program.PAYLOAD for task in got.tasks)
    assert all(task.epoch > last_epoch for task in got.tasks), "epochs rise over a power cut"
    store.close()
    shutil.rmtree(folder)


# --- a reboot, a kill, a failure between the commits --------------------------------------------------------------


def reboot(store: EmbeddedStore, folder: Path) -> EmbeddedStore:
    store.close()
    folders.coordination_path(folder).unlink()
    return EmbeddedStore(folder)


def test_after_a_reboot_what_ran_is_ready_again_in_its_place(store: EmbeddedStore, folder: Path) -> None:
    one = join(store)
    store.run(Push(tuple(NewTask(f"t{number}", "kind") for number in range(4))))
    store.run(Push((NewTask("later", "kind", delay=1 << 40),)))
    taken = claim(store, one, 1, 2)
    store.run(Finish(one, (TaskEnd(*taken[0]),)))
    again = reboot(store, folder)
    assert [info(again, f"t{number}").state for number in range(4)] == [TaskState.DONE, *[TaskState.QUEUED] * 3]
    assert [name for name, _ in claim(again, join(again), 1, 9)] == ["t1", "t2", "t3"]
    assert info(again, "later").state is TaskState.QUEUED
    again.close()


def test_a_claim_syncs_nothing(store: EmbeddedStore, folder: Path) -> None:
    """Only the first of some thousands does, to reserve their epochs."""
    one = join(store)
    store.run(Push(tuple(NewTask(f"t{number}", "kind") for number in range(9))))
    claim(store, one, 1)
    before = (folder / folders.DURABLE).read_bytes()
    for seq in range(2, 12):
        claim(store, one, seq)
    store.run(GetTask("t1"))
    assert (folder / folders.DURABLE).read_bytes() == before


@pytest.mark.parametrize("what", ["finish", "push", "cancel", "sweep"])
def test_a_failure_between_the_two_commits_is_mended(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The durable file is committed first; the same operation sent again, or the next, does the rest."""
    one = join(store)
    store.run(Push((NewTask("t1", "kind", max_deaths=2), NewTask("t2", "kind"))))
    ((_, epoch),) = claim(store, one, 1)
    op = {
        "finish": Finish(one, (TaskEnd("t1", epoch, result=b"result"),)),
        "push": Push((NewTask("t3", "kind"),)),
        "cancel": CancelTask("t2"),
        "sweep": Sweep((one,)),
    }[what]

    def half(transaction: Transaction) -> None:
        transaction._durably(lmdb.Transaction.commit)
        raise RuntimeError("in between")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit", half)
        with pytest.raises(RuntimeError, match="in between"):
            store.run(op)
    if what == "finish":
        assert info(store, "t1").state is TaskState.DONE
    answer = store.run(op)
    if isinstance(answer, Finished):
        assert answer.tasks[0].known
        assert answer.tasks[0].state is TaskState.DONE
        assert len(info(store, "t1").attempts) == 1
    two = join(store, "two")
    expected = {"finish": ["t2"], "push": ["t2", "t3"], "cancel": [], "sweep": ["t1", "t2"]}[what]
    assert [name for name, _ in claim(store, two, 1, 9)] == expected
    assert info(store, "t1").deaths == (1 if what == "sweep" else 0), "one death counts once"


def test_the_claims_of_a_damaged_coordination_file_are_void(store: EmbeddedStore, folder: Path) -> None:
    """Its owner has to join anew; the task has another epoch then, and the old one ends nothing."""
    one = join(store)
    store.run(Push((NewTask("t", "kind"),)))
    ((_, epoch),) = claim(store, one, 1)
    again = reboot(store, folder)
    two = join(again, "two")
    ((name, anew),) = claim(again, two, 1)
    assert name == "t"
    assert anew > epoch
    stale = again.run(Finish(two, (TaskEnd("t", epoch),)))
    assert isinstance(stale, Finished)
    assert not stale.tasks[0].known
    again.close()
