"""The parts that processes of their own play in `test_embedded_processes`: one function for each.

They are started as `python embedded_program.py PART FOLDER ARGUMENT…`, tell what they do in lines on standard output,
and end with a failure where something is not as it should be.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lmdb.verify import verify

from cross_instance.errors import StoreFull, StoreUnavailable
from cross_instance.rules.operations import (
    DAY,
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Granted,
    Instant,
    Join,
    Joined,
    Kind,
    Leave,
    LimitSpec,
    Lock,
    Locked,
    Settle,
    Snapshot,
    Waiting,
)
from cross_instance.stores import database, folder as folders
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.environment import machine_clock

LONG = 1 << 50
ACCOUNT = "acme:main"


def say(*words: object) -> None:
    print(*words, flush=True)


def refusal(call: Callable[..., object]) -> StoreUnavailable | None:
    """How the store refuses a call, or None."""
    try:
        call()
    except StoreUnavailable as error:
        return error
    return None


def join(store: EmbeddedStore, name: str) -> int:
    joined = store.run(Join(name, name, os.getpid(), "machine", "host"))
    assert isinstance(joined, Joined)
    return joined.incarnation


def publish(store: EmbeddedStore, incarnation: int, slots: int) -> int:
    limits = (LimitSpec(Kind.REQUESTS, 1_000_000, 1_000_000, DAY), LimitSpec(Kind.CONCURRENCY, slots))
    configured = store.run(Configure(incarnation, ACCOUNT, AccountSpec(limits)))
    assert isinstance(configured, Configured)
    return configured.revision


def stop_inside(folder: Path) -> None:
    """Stop inside the gate; go on when continued."""

    def clock() -> Instant:
        os.kill(os.getpid(), signal.SIGSTOP)
        return machine_clock()

    store = EmbeddedStore(folder, clock=clock)
    store.run(Snapshot())
    say("done")


def wait_at_the_gate(folder: Path) -> None:
    """Wait for the gate until Ctrl-C."""
    store = EmbeddedStore(folder, patience=600)
    say("ready")
    sys.stdin.readline()
    try:
        say("waiting")
        store.run(Snapshot())
    except KeyboardInterrupt:
        say("interrupted")


def fork_and_die_inside(folder: Path) -> None:
    """Leave a child behind and die inside the gate: what the child inherited must not keep it shut."""
    child = 0

    def clock() -> Instant:
        if child:
            os.kill(os.getpid(), signal.SIGKILL)
        return machine_clock()

    store = EmbeddedStore(folder, clock=clock)
    join(store, "parent")
    child = os.fork()
    if not child:
        say("child", os.getpid())
        signal.pause()
    store.run(Snapshot())


def fork_often(folder: Path, times: str) -> None:
    """Fork while a thread is busy in the store; each child opens its own and cannot use its parent's."""
    store, twin = EmbeddedStore(folder), AsyncEmbeddedStore(folder)
    incarnation = join(store, "parent")
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            store.run(Lock(incarnation, "busy", "token", LONG))

    thread = threading.Thread(target=keep_busy)
    thread.start()
    for n in range(int(times)):
        child = os.fork()
        if not child:
            live_as_child(folder, store, twin, n)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
    world = store.run(Snapshot())
    assert [lock.resource for lock in world.locks] == ["busy"]
    assert len(world.instances) == 1 + int(times)
    assert store.wait((incarnation, 1), 0) is None
    store.close()
    say("done")


def live_as_child(folder: Path, store: EmbeddedStore, twin: AsyncEmbeddedStore, n: int) -> NoReturn:
    async def use_parents() -> int:
        refused = 0
        for use in (twin.run(Snapshot()), twin.run(Join("x", "x", 1, "", "")), twin.wait((1, 1), 60)):
            try:
                await use
            except StoreUnavailable:
                refused += 1
        return refused

    if "before the fork" not in str(refusal(lambda: store.run(Snapshot()))):
        os._exit(2)
    if asyncio.run(use_parents()) != 3:
        os._exit(3)
    store.close()
    own = EmbeddedStore(folder)
    join(own, f"child {n}")
    own.close()
    os._exit(0)


def be_killed_often(folder: Path, kills: str, seed: str) -> None:
    """Kill writing processes at random moments, two of which live at a time; then everything must fit together."""
    chance = random.Random(int(seed))
    store = EmbeddedStore(folder)
    incarnation = join(store, "shared")
    revision = publish(store, incarnation, 1_000_000)
    store.close()
    progress, progressing = os.pipe()
    joined = os.open(folder / "joined", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    living: list[int] = []
    for n in range(int(kills)):
        child = os.fork()
        if not child:
            write_for_ever(folder, incarnation, revision, n, progressing, joined)
        living.append(child)
        os.read(progress, chance.randrange(1, 30))
        for _ in range(chance.randrange(3_000)):
            pass
        if len(living) == 2:
            kill(living.pop(0))
    for child in living:
        kill(child)
    check_what_is_left(folder, incarnation)
    say("done")


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended by itself"


def write_for_ever(folder: Path, incarnation: int, revision: int, n: int, progressing: int, joined: int) -> NoReturn:
    try:
        store = EmbeddedStore(folder)
        chance = random.Random(n)
        for count in range(1, 1_000_000):
            seq = n * 1_000_000 + count
            taken = store.run(Acquire(incarnation, seq, ACCOUNT, revision=revision))
            assert isinstance(taken, Granted), taken
            if count % 3:
                store.run(Settle(incarnation, seq))
            store.run(Lock(incarnation, f"{chance.randrange(300):0180}", "token", LONG))
            if count % 20 == 1:
                os.write(joined, b"%d\n" % join(store, f"{n}.{count}"))
            os.write(progressing, b".")
    finally:
        os._exit(1)


def check_what_is_left(folder: Path, incarnation: int) -> None:
    for path in (folders.coordination_path(folder), folder / folders.DURABLE):
        assert verify(str(path), subdir=False) == []  # type: ignore[no-untyped-call]
    store = EmbeddedStore(folder)
    world = store.run(Snapshot())
    (node,) = (node for node in world.nodes if node.node == ACCOUNT)
    assert node.held == sum(instance.held for instance in world.instances) > 0
    numbers = [int(line) for line in (folder / "joined").read_text().splitlines()]
    assert len(set(numbers)) == len(numbers)
    assert {*numbers} <= {instance.incarnation for instance in world.instances}
    assert join(store, "after") > max(numbers)
    pipes = [path for path in (folder / folders.WAKE).iterdir() if not path.is_symlink()]
    assert len(pipes) == 1, "the pipes of the dead are removed"
    store.run(Leave(incarnation))
    assert [node.held for node in store.run(Snapshot()).nodes if node.node == ACCOUNT] == [0]
    store.close()


def be_interrupted_often(folder: Path, times: str) -> None:
    """Ctrl-C at random moments of operations: the gate is open afterwards, and nothing is half done."""
    chance = random.Random(1)
    store = EmbeddedStore(folder)
    incarnation = join(store, "one")
    revision = publish(store, incarnation, 1_000_000)
    gate = os.open(folder / folders.GATE, os.O_RDWR)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    seq = interrupted = 0
    while interrupted < int(times):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.000_01, 0.000_6))
            while True:
                seq += 1
                store.run(Acquire(incarnation, seq, ACCOUNT, revision=revision))
                store.run(Settle(incarnation, seq))
        except KeyboardInterrupt:
            interrupted += 1
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(gate, fcntl.LOCK_UN)
    world = store.run(Snapshot())
    assert world.nodes[0].held == world.instances[0].held
    store.close()
    say("done")


def fill_the_disk(folder: Path, in_place: str) -> None:
    """Meet the end of the room for files; what was answered stays, and room that comes back is used."""
    if in_place == "False":
        database.IN_PLACE = frozenset()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    database.FIRST_SIZE = 1 << 19
    store = EmbeddedStore(folder)
    incarnation = join(store, "one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    answered: list[str] = []
    name, refused = "", None
    for n in range(10_000):
        name = f"{n:0200}"
        refused = refusal(lambda name=name: store.run(Lock(incarnation, name, "token", LONG)))
        if refused:
            break
        answered.append(name)
    assert isinstance(refused, StoreFull), refused
    assert [lock.resource for lock in store.run(Snapshot()).locks] == answered
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert isinstance(store.run(Lock(incarnation, name, "token", LONG)), Locked)
    assert [lock.resource for lock in store.run(Snapshot()).locks] == [*answered, name]
    store.close()
    say("full after", len(answered))


def fill_the_durable_file(folder: Path) -> None:
    """The same for the durable file: a Join that has no room is refused and takes no number."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = EmbeddedStore(folder)
    first = join(store, "one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    for _ in range(2):
        refused = refusal(lambda: join(store, "two"))
        assert isinstance(refused, StoreFull), refused
        assert folders.DURABLE in str(refused)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert join(store, "two") == first + 1
    assert [instance.instance_id for instance in store.run(Snapshot()).instances] == ["one", "two"]
    store.close()
    say("done")


def use_a_read_only_folder(folder: Path) -> None:
    """As a user who may not write there; root may, and becomes another user first."""
    made = folder / "made"
    made.mkdir(mode=0o700)
    below = folder / "made" / "below"
    if os.geteuid() == 0:
        os.chown(made, 65_534, 65_534)
        folder.chmod(0o711)
        os.setgid(65_534)
        os.setuid(65_534)
    made.chmod(0o500)
    for refused in (made, below):
        say(refusal(lambda folder=refused: EmbeddedStore(folder)))
    made.chmod(0o700)
    store = EmbeddedStore(made)
    made.chmod(0o500)
    say(refusal(lambda: join(store, "needs the durable file")))
    assert store.run(Snapshot()).instances == ()
    made.chmod(0o700)
    assert join(store, "now there is room") > 0
    store.close()


def take_locks(folder: Path, start: str, count: str) -> None:
    """Fill the file of others."""
    database.FIRST_SIZE = 1 << 18
    store = EmbeddedStore(folder)
    incarnation = join(store, f"filler {start}")
    for n in range(int(start), int(start) + int(count)):
        assert isinstance(store.run(Lock(incarnation, f"{n:0200}", "token", LONG)), Locked)
    say("locks", len(store.run(Snapshot()).locks))
    store.close()


def wait_for_a_slot(folder: Path) -> None:
    """Stand in the queue; say when woken, and by what."""
    store = EmbeddedStore(folder)
    incarnation = join(store, "waiter")
    revision = publish(store, incarnation, 1)
    question = Acquire(incarnation, 1, ACCOUNT, revision=revision)
    assert isinstance(store.run(question), Waiting)
    say("waiting", incarnation)
    wake = store.wait((incarnation, 1), 60)
    assert wake is not None
    say("woken", wake.incarnation, wake.seq)
    assert isinstance(store.run(question), Granted)
    say("granted")
    sys.stdin.readline()
    store.close()


def main() -> None:
    part, folder, *arguments = sys.argv[1:]
    globals()[part](Path(folder), *arguments)


if __name__ == "__main__":
    main()
