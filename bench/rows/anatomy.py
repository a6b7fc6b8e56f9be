"""Where a permit's time goes: its two operations whole, and their parts by themselves."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from statistics import median
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from bench.contenders import FOREVER
from bench.floors import gate_alone, gated_write
from bench.measuring import Role, Row, Subject
from bench.ours import NEVER_BINDING, PROVIDER, join, settings_in
from cross_instance.rules.apply import apply
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.stores.environment import machine_clock
from cross_instance.testing import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.contenders import Sampler
    from bench.measuring import Figures, Scale
    from bench.ours import Member
    from cross_instance.rules.operations import AccountSpec, Operation, Result

    Run = Callable[[Operation[Any]], Result]

ACQUIRE, SETTLE = "Acquire µs", "Settle µs"


class _Flat(dict[bytes, bytes]):
    """Tables without order: once an account exists, permits that nobody waits for need none."""

    put = dict.__setitem__
    delete = dict.__delitem__


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    spec = settings_in(folder, **NEVER_BINDING).account_spec(PROVIDER, "default")
    with ExitStack() as stack:
        write = stack.enter_context(gated_write(folder / "write"))
        gate = stack.enter_context(gate_alone(folder / "gate"))
        store = EmbeddedStore(folder / "store")
        stack.callback(store.close)
        yield [
            Subject("one gated read-modify-write", Role.FLOOR, partial(_part, write, scale.samples)),
            Subject("the gate alone", Role.OURS, partial(_part, gate, scale.samples)),
            Subject("rules and records, in memory", Role.OURS, partial(_operations, *_in_memory(spec), scale.samples)),
            Subject("whole", Role.OURS, partial(_operations, store.run, join(store, spec), count(1), scale.samples)),
        ]


def _part(sample: Sampler, samples: int) -> Figures:
    """What takes part in both operations alike."""
    took = median(sample(samples, FOREVER)) / 1e3
    return {ACQUIRE: took, SETTLE: took}


def _in_memory(spec: AccountSpec) -> tuple[Run, Member, count[int]]:
    model = ModelStore()
    member = join(model, spec)
    tables: Any = _Flat(model.tables.values)
    return (lambda op: apply(tables, op, machine_clock())), member, count(1)


def _operations(run: Run, member: Member, seqs: count[int], samples: int) -> Figures:
    took: dict[str, list[int]] = {ACQUIRE: [], SETTLE: []}
    for _ in range(samples):
        seq = next(seqs)
        for name, op in ((ACQUIRE, member.acquire(seq)), (SETTLE, member.settle(seq))):
            begun = monotonic_ns()
            run(op)
            took[name].append(monotonic_ns() - begun)
    return {name: median(spent) / 1e3 for name, spent in took.items()}


ROW = Row(
    name="anatomy",
    title="Where a permit's time goes",
    method=(
        "The two operations of a permit on the embedded store, and parts of them by themselves: the gate, entered and "
        "left; the rules with the reading and writing of records, on a dict; and the floor, which is the gate with one "
        "record read and written in the file. Timed in this process, with limits that never bind."
    ),
    rounds=7,
    targets=(),
    shown=ACQUIRE,
    subjects=subjects,
)
