"""Floors: the least that anything of its kind can cost on this machine.

The floor of a permit is one read-modify-write of one record behind the gate: the gate, the file and the settings of the
embedded store, and nothing of its rules. A permit and its settlement are two such operations on several records.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.contenders import Contender, Sampler, sampler
from bench.measuring import Role
from cross_instance.stores import folder as folders
from cross_instance.stores.database import Database
from cross_instance.stores.gate import Gate, Tries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = b"record"
RECORD = bytes(200)
"""About as long as the record of an account with three limits."""
PATIENCE = 10.0


@contextmanager
def gate_alone(folder: Path) -> Iterator[Sampler]:
    folders.prepare(folder)
    gate = Gate(folder / folders.GATE)

    def in_and_out() -> None:
        if not gate.enter():
            _enter(gate, folder)
        gate.leave()

    yield sampler(in_and_out)
    gate.close()


@contextmanager
def gated_write(folder: Path) -> Iterator[Sampler]:
    filesystem = folders.prepare(folder)
    gate = Gate(folder / folders.GATE)
    _enter(gate, folder)
    database = Database(folder / "floor.mdb", filesystem, durable=False)
    gate.leave()

    def read_modify_write() -> None:
        if not gate.enter():
            _enter(gate, folder)
        try:
            transaction = database.begin()
            record: bytes = transaction.get(KEY, RECORD)
            transaction.put(KEY, record[1:] + record[:1])
            transaction.commit()
        finally:
            gate.leave()

    yield sampler(read_modify_write)
    database.close()
    gate.close()


def _enter(gate: Gate, folder: Path) -> None:
    for _ in Tries(time.monotonic() + PATIENCE, folder, gate.holder):
        if gate.enter():
            return
    raise TimeoutError("somebody does not leave the gate")


FLOOR = Contender("one gated read-modify-write", Role.FLOOR, gated_write)
