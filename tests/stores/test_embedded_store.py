"""The embedded store in one process: its transactions, its files when they are full or damaged, its sharing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec
import pytest
from tests.stores.members import join

from cross_instance.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from cross_instance.rules.apply import decide
from cross_instance.rules.ledger import node_key
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Fenced,
    Instant,
    Join,
    Kind,
    LimitSpec,
    Lock,
    Locked,
    Snapshot,
    Unlock,
)
from cross_instance.rules.records import FORMAT
from cross_instance.stores import database, environment, folder as folders
from cross_instance.stores.database import Database
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.environment import machine_clock
from cross_instance.stores.gate import Gate
from cross_instance.stores.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

DECIDE = "cross_instance.stores.environment.decide"
LONG = 1 << 50


def lock(store: EmbeddedStore, incarnation: int, resource: str) -> None:
    assert isinstance(store.run(Lock(incarnation, resource, "token", LONG)), Locked)


def locks(store: EmbeddedStore) -> set[str]:
    return {held.resource for held in store.run(Snapshot()).locks}


def gate_is_free(folder: Path) -> bool:
    descriptor = os.open(folder / folders.GATE, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


# --- transactions ----------------------------------------------------------------------------------------------


def databases(folder: Path) -> tuple[Database, Database]:
    folder.mkdir()
    return (
        Database(folder / "coordination.mdb", "", durable=False),
        Database(folder / "durable.mdb", "", durable=True),
    )


def test_keys_go_to_the_file_that_their_first_byte_names(folder: Path) -> None:
    coordination, durable = databases(folder)
    tables = Transaction(coordination.begin(), durable.begin)
    entries = {b"\x01a": b"1", b"\x01b": b"2", b"\x7f": b"3", b"\x80": b"4", b"\x81x": b"5", b"\xff": b"6"}
    for key, value in entries.items():
        tables.put(key, value)
    assert dict(tables.scan(b"")) == entries
    assert [*tables.scan(b"\x81")] == [(b"\x81x", b"5")] == [tables.first(b"\x81")]
    assert tables.first(b"\x01") == (b"\x01a", b"1") == tables.first(b"")
    assert tables.first(b"\x02") is None
    tables.delete(b"\x81x")
    tables.delete(b"\x01a")
    tables.delete(b"missing")
    assert tables.first(b"\x01") == (b"\x01b", b"2")
    assert [tables.get(key) for key in entries] == [None, b"2", b"3", b"4", None, b"6"]
    tables.commit()
    for opened, expected in ((coordination, [b"\x01b", b"\x7f"]), (durable, [b"\x80", b"\xff"])):
        transaction = opened.begin()
        assert [key for key, _ in transaction.cursor()] == expected
        transaction.abort()
        opened.close()


def test_an_aborted_transaction_changes_neither_file(folder: Path) -> None:
    coordination, durable = databases(folder)
    tables = Transaction(coordination.begin(), durable.begin)
    tables.put(b"\x01", b"")
    tables.put(b"\x81", b"")
    tables.abort()
    after = Transaction(coordination.begin(), durable.begin)
    assert [*after.scan(b"")] == []
    after.abort()
    coordination.close()
    durable.close()


def test_the_durable_file_stays_closed_until_it_is_needed(folder: Path) -> None:
    coordination, durable = databases(folder)
    tables = Transaction(coordination.begin(), durable.begin)
    tables.put(b"\x01", b"")
    assert [*tables.scan(b"\x01")] == [(b"\x01", b"")]
    assert not tables.is_durable
    tables.abort()
    coordination.close()
    durable.close()


def test_an_exception_inside_aborts_and_opens_the_gate(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(store)

    def fail(tables: Transaction, *_: object) -> None:
        tables.put(b"\x01half", b"done")
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(DECIDE, fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            store.run(Snapshot())
    assert gate_is_free(folder)

    def look(tables: Transaction, *_: object) -> None:
        raise RuntimeError(tables.get(b"\x01half"))

    monkeypatch.setattr(DECIDE, look)
    with pytest.raises(RuntimeError, match="None"):
        store.run(Snapshot())


def test_figures_that_cannot_be_stored_are_refused_and_the_store_goes_on(store: EmbeddedStore, folder: Path) -> None:
    incarnation = join(store)
    with pytest.raises(ValueError):
        store.run(Lock(incarnation, "x" * 2_000, "token", LONG))
    assert gate_is_free(folder)
    assert locks(store) == set()


def test_a_call_from_inside_an_operation_is_told_so(folder: Path) -> None:
    refusals: list[str] = []

    def clock() -> Instant:
        with pytest.raises(StoreUnavailable) as caught:
            called.run(Snapshot())
        refusals.append(str(caught.value))
        return machine_clock()

    called = EmbeddedStore(folder, clock=clock)
    called.run(Snapshot())
    assert ["from inside one of its operations" in text for text in refusals] == [True]
    called.close()


def test_operations_are_decided_at_the_instants_of_the_machine_s_clock(store: EmbeddedStore) -> None:
    before = store.now()
    instants = [store.run(Snapshot()).at.mono for _ in range(20)]
    assert before <= instants[0]
    assert instants == sorted(instants)
    assert instants[-1] <= store.now()


# --- full and damaged files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [True, False])
def test_a_full_map_grows_without_losing_the_operation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.setattr(database, "FIRST_SIZE", 1 << 18)
    if not in_place:
        monkeypatch.setattr(database, "IN_PLACE", frozenset())
    store = EmbeddedStore(folder)
    incarnation = join(store)
    names = {f"{n:0200}" for n in range(2_000)}
    for name in sorted(names):
        lock(store, incarnation, name)
    assert locks(store) == names
    assert folders.coordination_path(folder).stat().st_size >= 1 << 19
    store.close()
    store = EmbeddedStore(folder)
    assert locks(store) == names
    store.close()


def test_a_file_that_is_overwritten_in_place_has_all_its_blocks(store: EmbeddedStore, folder: Path) -> None:
    found = folders.coordination_path(folder).stat()
    if folders.filesystem_of(folder) in database.IN_PLACE:
        assert found.st_blocks * 512 >= found.st_size == database.FIRST_SIZE
    else:
        assert found.st_size < database.FIRST_SIZE


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


@pytest.mark.parametrize(("start", "length"), [(0, 8_192), (8_192, 200_000), (0, 1 << 18), (16, 4)])
def test_a_damaged_coordination_file_is_set_aside_and_begun_anew(
    store: EmbeddedStore, folder: Path, start: int, length: int
) -> None:
    incarnation = join(store)
    for n in range(200):
        lock(store, incarnation, f"{n:0100}")
    store.close()
    path = folders.coordination_path(folder)
    overwrite(path, start, length)
    damaged = path.read_bytes()
    store = EmbeddedStore(folder)
    world = store.run(Snapshot())
    assert (world.instances, world.locks) == ((), ())
    assert [notice.topic for notice in world.notices] == ["store-damaged"]
    (aside,) = folder.glob("*.damaged-*")
    assert aside.read_bytes() == damaged
    assert store.run(Snapshot()).notices == ()
    assert join(store) > incarnation
    store.close()


def test_a_file_is_verified_outside_the_gate(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many processes start together, each would keep the others out for as long as that takes."""
    incarnation = join(store)
    store.close()
    other = Gate(folder / folders.GATE)
    entered: list[bool] = []

    def problem_of(copy: bytes) -> str | None:
        entered.append(other.enter())
        other.leave()
        return database.problem_of(copy)

    monkeypatch.setattr(environment, "problem_of", problem_of)
    store = EmbeddedStore(folder)
    assert entered == [True]
    assert [instance.incarnation for instance in store.run(Snapshot()).instances] == [incarnation]
    store.close()
    other.close()


@pytest.mark.parametrize("entry", [(b"nacme:main\0", b"\xff\xff"), (b"k\xff\xff\0", b"")])
def test_a_record_that_cannot_be_read_is_set_aside_with_its_file(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch, entry: tuple[bytes, bytes]
) -> None:
    incarnation = join(store)

    def spoil(tables: Transaction, op: Any, at: Instant) -> Any:
        tables.put(*entry)
        return decide(tables, Lock(incarnation, "a", "token", LONG), at)

    with monkeypatch.context() as patch:
        patch.setattr(DECIDE, spoil)
        store.run(Snapshot())
    world = store.run(Snapshot())
    assert world.instances == ()
    assert [notice.topic for notice in world.notices] == ["store-damaged"]


def test_a_record_of_a_newer_version_is_told_from_damage(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incarnation = join(store)
    spec = AccountSpec((LimitSpec(Kind.REQUESTS, 60_000, 60_000),))
    store.run(Configure(incarnation, "acme/main", spec))
    durable = (folder / folders.DURABLE).read_bytes()

    def as_a_newer_version_does(tables: Transaction, op: Any, at: Instant) -> Any:
        key = node_key("acme/main")
        record: list[Any] = msgspec.msgpack.decode(tables.get(key) or b"")
        record[0][0][0] = "requests_per_fortnight"
        tables.put(key, msgspec.msgpack.encode(record))
        return decide(tables, Lock(incarnation, "a", "token", LONG), at)

    with monkeypatch.context() as patch:
        patch.setattr(DECIDE, as_a_newer_version_does)
        store.run(Snapshot())
    gate = Gate(folder / folders.GATE)
    gate.announce_format(FORMAT + 1)
    for op in (Acquire(incarnation, 1, "acme/main", revision=1), Snapshot()):
        with pytest.raises(StoreUnavailable, match=r"newer version.*requests_per_fortnight.*upgrade"):
            store.run(op)
    assert not [*folder.glob("*.damaged-*")]
    assert (folder / folders.DURABLE).read_bytes() == durable
    lock(store, incarnation, "what can be read is used")
    gate.announce_format(FORMAT)
    assert gate.newest_format() == FORMAT + 1, "who comes with an older one does not take it back"
    gate.close()


def test_a_record_that_stays_unreadable_is_blamed_on_the_durable_file_and_nothing_is_touched(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(store)
    durable = (folder / folders.DURABLE).read_bytes()

    def read(tables: Transaction, *_: object) -> None:
        tables.get(b"\x81")
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "damaged")

    monkeypatch.setattr(DECIDE, read)
    for _ in range(3):
        with pytest.raises(StoreCorrupt, match=folders.DURABLE):
            store.run(Snapshot())
    assert len([*folder.glob("*.damaged-*")]) == 1
    assert (folder / folders.DURABLE).read_bytes() == durable


@pytest.mark.parametrize(("start", "length", "size"), [(0, 8_192, None), (8_192, 4_096, None), (0, 0, 5_000)])
def test_a_damaged_durable_file_is_told_and_left_as_it_is(
    store: EmbeddedStore, folder: Path, start: int, length: int, size: int | None
) -> None:
    incarnation = join(store)
    store.close()
    path = folder / folders.DURABLE
    whole = path.read_bytes()
    overwrite(path, start, length)
    os.truncate(path, len(whole) if size is None else size)
    damaged = path.read_bytes()
    store = EmbeddedStore(folder)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=rf"{path}.*left as it is.*backup"):
            join(store, "two")
    assert path.read_bytes() == damaged
    assert locks(store) == set(), "what does not need the durable file goes on"
    path.write_bytes(whole)
    assert join(store, "two") == incarnation + 1
    store.close()


def test_one_process_sees_that_another_has_replaced_the_files(store: EmbeddedStore, folder: Path) -> None:
    """The gate counts generations; here the other process is played by hand."""
    lock(store, join(store), "kept by the old file")
    path = folders.coordination_path(folder)
    path.rename(path.with_name(f"{path.name}.damaged-1"))
    other = Gate(folder / folders.GATE)
    assert other.enter()
    other.replace()
    other.leave()
    other.close()
    assert locks(store) == set()
    assert path.exists()


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replaced(folder: Path) -> None:
    moved(folder)
    EmbeddedStore(folder.with_name("other")).close()
    folder.with_name("other").rename(folder)


@pytest.mark.parametrize("lose", [shutil.rmtree, moved, replaced])
def test_a_folder_that_is_gone_while_in_use_is_made_anew(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path], object]
) -> None:
    monkeypatch.setattr("cross_instance.stores.environment.LOOK_AGAIN", 0)
    incarnation = join(store)
    lose(folder)
    world = store.run(Snapshot())  # the look is due after this one, at the latest
    fenced = store.run(Lock(incarnation, "a", "token", LONG))
    assert isinstance(fenced, Fenced)
    (notice,) = (*world.notices, *fenced.notices)
    assert notice.topic == "store-removed"
    assert "not counted any more" in notice.text
    assert join(store) > incarnation
    assert (folder / folders.GATE).exists()
    assert gate_is_free(folder)


def test_that_a_folder_is_gone_is_told_once_however_long_no_other_can_be_made(
    store: EmbeddedStore, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cross_instance.stores.environment.LOOK_AGAIN", 0)
    incarnation = join(store)
    moved(folder)
    folder.touch()
    with contextlib.suppress(StoreUnavailable):
        store.run(Snapshot())  # the look is due after this one, at the latest
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="is not a folder"):
            store.run(Snapshot())
    folder.unlink()
    fenced = store.run(Lock(incarnation, "a", "token", LONG))
    assert [notice.topic for notice in fenced.notices] == ["store-removed"]
    assert len(caplog.records) == 1


def test_a_store_can_be_closed_although_its_folder_has_become_a_file(store: EmbeddedStore, folder: Path) -> None:
    before = set(threading.enumerate())
    join(store)
    assert not set(threading.enumerate()) <= before
    moved(folder)
    folder.touch()
    store.close()
    assert set(threading.enumerate()) <= before


def test_errors_of_lmdb_are_told_in_words(folder: Path) -> None:
    folder.mkdir()
    opened = Database(folder / "some.mdb", "", durable=True)
    assert isinstance(opened.explain(lmdb.CorruptedError("mdb_get")), StoreCorrupt)
    assert type(opened.explain(lmdb.Error("mdb_txn_commit: Input/output error"))) is StoreUnavailable
    assert "MDB_BAD_RSLOT" in str(opened.explain(lmdb.Error("MDB_BAD_RSLOT")))
    opened.close()


# --- sharing, closing ------------------------------------------------------------------------------------------


def test_a_folder_stays_the_same_wherever_the_process_goes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cross_instance.stores.environment.LOOK_AGAIN", 0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(folder.parent)
    store = EmbeddedStore(Path(folder.name))
    incarnation = join(store)
    monkeypatch.chdir(elsewhere)
    lock(store, incarnation, "kept")
    assert locks(store) == {"kept"}
    assert list(elsewhere.iterdir()) == []
    store.close()


def test_all_stores_of_a_folder_share_one_environment(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    first, second, third = EmbeddedStore(folder), AsyncEmbeddedStore(folder), EmbeddedStore(link)
    incarnation = join(first)
    first.close()
    first.close()
    assert isinstance(asyncio.run(second.run(Lock(incarnation, "a", "token", LONG))), Locked)
    asyncio.run(second.close())
    assert locks(third) == {"a"}
    third.close()
    for closed in (third, first):
        with pytest.raises(StoreUnavailable, match="closed"):
            closed.run(Snapshot())
    with pytest.raises(StoreUnavailable, match="closed"):
        third.now()
    again = EmbeddedStore(folder)
    assert locks(again) == {"a"}
    again.close()


def test_descriptors_and_threads_are_given_back_and_never_inherited(folder: Path) -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/dev/fd").iterdir()}

    EmbeddedStore(folder).close()
    before, threads = descriptors(), {*threading.enumerate()}
    store = EmbeddedStore(folder)
    for n in range(5):
        join(store, f"instance {n}")
    opened = [int(name) for name in descriptors() - before]
    inheritable = []
    for descriptor in opened:
        try:
            inheritable.append(os.get_inheritable(descriptor))
        except OSError:  # the one by which the folder was listed
            continue
    assert 0 < len(inheritable) <= 10
    assert not any(inheritable)
    assert len({*threading.enumerate()} - threads) == 1
    store.close()
    assert descriptors() <= before
    assert {*threading.enumerate()} <= threads
    assert [*(folder / folders.WAKE).iterdir()] == []


def test_threads_of_a_process_take_turns(store: EmbeddedStore) -> None:
    incarnation = join(store)

    def work(worker: int) -> None:
        for n in range(50):
            lock(store, incarnation, f"{worker}.{n}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks(store)) == 400


def test_an_event_loop_does_not_wait_for_a_thread_that_is_inside(folder: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow_clock() -> Instant:
        inside.set()
        leave.wait()
        return machine_clock()

    slow = EmbeddedStore(folder, clock=slow_clock)
    thread = threading.Thread(target=slow.run, args=(Snapshot(),))
    thread.start()
    inside.wait()

    async def main() -> None:
        store = AsyncEmbeddedStore(folder)
        waiting = asyncio.ensure_future(store.run(Snapshot()))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        leave.set()
        assert (await waiting).instances == ()
        await store.close()

    try:
        asyncio.run(main())
    finally:
        leave.set()
        thread.join()
    slow.close()


def test_what_is_synced_or_goes_through_everything_is_left_to_a_thread(folder: Path) -> None:
    deciders: set[int] = set()

    def clock() -> Instant:
        deciders.add(threading.get_ident())
        return machine_clock()

    async def main() -> None:
        store = AsyncEmbeddedStore(folder, clock=clock)
        await store.run(Unlock("a", "token"))
        assert deciders == {threading.get_ident()}
        await store.run(Join("one", "nonce", 1, "machine", "host"))
        assert len(deciders) == 2
        deciders.clear()
        await store.run(Snapshot())
        assert threading.get_ident() not in deciders
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_gate_that_stays_shut_is_told_in_time(folder: Path, asynchronous: bool) -> None:
    EmbeddedStore(folder).close()
    holder = Gate(folder / folders.GATE)
    assert holder.enter()
    with pytest.raises(StoreBusy):
        EmbeddedStore(folder, patience=0)
    holder.leave()
    store, twin = EmbeddedStore(folder, patience=0), AsyncEmbeddedStore(folder, patience=0)
    assert holder.enter()
    with pytest.raises(StoreBusy, match=rf"process {os.getpid()} holds") as caught:
        asyncio.run(twin.run(Snapshot())) if asynchronous else store.run(Snapshot())
    assert caught.value.pid == os.getpid()
    holder.leave()
    assert store.run(Snapshot()).instances == ()
    holder.close()
    store.close()
    asyncio.run(twin.close())


def test_a_cancelled_operation_never_lands_after_what_follows_it(folder: Path) -> None:
    """Shut out by another process, an operation moves to the gate's thread; cancelled there, it must be over."""
    plain = EmbeddedStore(folder)
    me = join(plain)
    holder = Gate(folder / folders.GATE)

    async def main() -> None:
        store = AsyncEmbeddedStore(folder)
        for turn in range(20):
            assert holder.enter()
            taking = asyncio.ensure_future(store.run(Lock(me, "it", f"token {turn}", 60_000_000)))
            for _ in range(turn):
                await asyncio.sleep(0)
            taking.cancel()
            opener = threading.Timer(0.002, holder.leave)
            opener.start()
            await asyncio.gather(taking, return_exceptions=True)
            opener.join()
            await store.run(Unlock("it", f"token {turn}"))
            assert locks(plain) == set()
        await store.close()

    asyncio.run(main())
    holder.close()
    plain.close()
