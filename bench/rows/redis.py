"""A permit on a Redis or Valkey server: by one process, by several at once, and behind ten thousand waiters."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import served
from bench.contenders import FOREVER, absent
from bench.crew import Crew, helper, serve_permits
from bench.measuring import Role, Row, Subject, Target, latencies
from bench.ours import PROVIDER, settings_in
from bench.rows.waiters import CANCEL, GRANT, TAKE, WAIT, Queue
from bench.servers import ABSENT, IS_INSTALLED, processor_time, serving
from bench.slots import ONE_SLOT
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.contenders import Contender, Sampler
    from bench.measuring import Figures, Scale

ONE_CALL, BOTH = "one call", "a permit and its settlement"
CONTENDERS = {
    ONE_CALL: (served.FLOOR, served.PERMIT, served.SETTLEMENT, *served.PEERS),
    BOTH: (served.FLOOR_OF_BOTH, served.RUNTIME),
}
TOGETHER = (served.FLOOR_OF_BOTH, served.RUNTIME, *served.PEERS)
SIZES = (1, 4, 16)


def _folder(folder: Path, contender: Contender) -> Path:
    own = folder / contender.open.__name__
    own.mkdir()
    return own


# --- one process ---------------------------------------------------------------------------------------------------


@contextmanager
def alone(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    if not IS_INSTALLED:
        yield []
        return
    with ExitStack() as stack:
        stack.enter_context(serving(folder))
        yield [
            Subject(contender.name, contender.role, partial(_in_a_row, sampler, scale.samples), case)
            for case, contenders in CONTENDERS.items()
            for contender in contenders
            if contender.is_installed
            for sampler in [stack.enter_context(contender.open(_folder(folder, contender)))]
        ]


def _in_a_row(sample: Sampler, samples: int) -> Figures:
    return latencies(sample(samples, FOREVER))


# --- several -------------------------------------------------------------------------------------------------------


@contextmanager
def together(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    if not IS_INSTALLED:
        yield []
        return
    with ExitStack() as stack:
        url = stack.enter_context(serving(folder))
        yield [
            Subject(
                contender.name,
                contender.role,
                partial(_compete, crew, size, scale.seconds, url),
                f"{size} process{'es' if size > 1 else ''}",
            )
            for contender in TOGETHER
            if contender.is_installed
            for crew in [_crew(contender, _folder(folder, contender), stack)]
            for size in SIZES
        ]


def _crew(contender: Contender, folder: Path, stack: ExitStack) -> Crew:
    members = []
    for number in range(max(SIZES)):
        own = folder / str(number)  # a machine of its own
        own.mkdir()
        members.append(stack.enter_context(helper(serve_permits, contender.open, own))[1])
    for member in members:
        member.recv()
    return Crew(members)


def _compete(crew: Crew, size: int, seconds: float, url: str) -> Figures:
    before = processor_time(url)
    durations = crew.compete(size, seconds)
    used = processor_time(url) - before
    return {
        "permits/s": len(durations) / seconds,
        **latencies(durations),
        "server µs per permit": used / len(durations) * 1e6,
    }


# --- waiters -------------------------------------------------------------------------------------------------------


@contextmanager
def behind_waiters(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    if not IS_INSTALLED:
        yield []
        return
    names = {0: "queue otherwise empty", scale.waiters: f"cross-instance, {scale.waiters:,} waiters"}
    spec = settings_in(folder, **ONE_SLOT).account_spec(PROVIDER, "default")
    with ExitStack() as stack:
        url = stack.enter_context(serving(folder))
        subjects = []
        for length, name in names.items():
            store = stack.enter_context(closing(open_store(f"{url}?namespace=queue-{length}")))
            queue = Queue(store, spec, length)
            role = Role.OURS if length else Role.FLOOR
            subjects.append(Subject(name, role, partial(queue.measure, scale.queue_samples)))
        yield subjects


ONE = Row(
    name="redis",
    title="A permit on a Redis server, one process",
    method=(
        "3,000 times in a row, over TCP on loopback; the limits (requests, tokens, slots) never bind. `permit` and "
        "`settlement` are the two operations of a permit, each timed by itself; `Runtime` is `with "
        "runtime.permit(...)`, which makes both. Peers take one call and give nothing back. The floor is a script "
        "that writes one field, called with redis-py's `evalsha`; of both operations, twice."
    ),
    rounds=7,
    targets=tuple(Target("p50 µs", "at most", 1.4, of_floor=True, case=case) for case in CONTENDERS),
    shown="p50 µs",
    if_missed="the rules run in the server's Lua, on several records, where the floor's script writes one field.",
    subjects=alone,
    absent=ABSENT or absent(one for contenders in CONTENDERS.values() for one in contenders),
)
SEVERAL = Row(
    name="redis-contention",
    title="A permit and its settlement on a Redis server, several processes at once",
    method=(
        "1, 4 and 16 processes take permits as fast as they can for one second, ours with their settlement. `server µs "
        "per permit` is what the server used of a processor for each: it decides one operation after the other, so "
        "this is what limits how many a server can give."
    ),
    rounds=5,
    targets=(),
    shown="permits/s",
    subjects=together,
    absent=ABSENT or absent(TOGETHER),
)
QUEUED = Row(
    name="redis-waiters",
    title="10,000 waiters on a Redis server",
    method=(
        "The same as on the embedded store: one slot is held, requests of 20 instances wait for it, and the operations "
        "of a queue are timed. The floor is the same in a queue that is otherwise empty. No peer has a queue."
    ),
    rounds=5,
    targets=tuple(Target(f"{name} µs", "at most", 2, of_floor=True) for name in (WAIT, CANCEL, GRANT, TAKE)),
    shown=f"{GRANT} µs",
    subjects=behind_waiters,
    absent=ABSENT,
)
