"""What the live instances publish for an account: each distinct spec once, and who published which.

1. Equal specs are one, whoever publishes them and whichever file he has them from: what follows from them costs ten
   thousand instances no more than two.
2. A spec stays as long as a live instance publishes it. Specs stand in the order in which they were first published.
3. The origin that is told of a spec is that of the first live instance that publishes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules import records
from cross_instance.rules.operations import CLUSTER, AccountSpec
from cross_instance.rules.tables import PUBLISHED, SPEC, named, numbers, unpack_one

if TYPE_CHECKING:
    from cross_instance.rules.records import Instance
    from cross_instance.rules.tables import Tables

NOTHING = 0
"""Stands for the number of a spec where an instance has withdrawn what it published."""


def specs_of(tables: Tables, account: str) -> list[AccountSpec]:
    """The distinct specs that live instances publish for an account."""
    return [
        msgspec.structs.replace(records.decode_spec(value), origin=_origin(tables, account, _number_in(key)))
        for key, value in tables.scan(named(SPEC, account))
    ]


def publishers_of(tables: Tables, account: str) -> list[int]:
    """The live instances that publish something for an account."""
    return [_number_in(key) for key, _ in tables.scan(named(PUBLISHED, account))]


def is_published(tables: Tables, account: str) -> bool:
    """Whether any live instance publishes anything for an account."""
    return tables.first(named(SPEC, account)) is not None


def publish(tables: Tables, incarnation: int, instance: Instance, account: str, spec: AccountSpec) -> None:
    """Have an instance say so from now on. For the cluster a spec without limits withdraws what it said before."""
    if account not in instance.accounts:
        instance.accounts.append(account)
        instance.specs.append(NOTHING)
    place = instance.accounts.index(account)
    before = instance.specs[place]
    number = instance.specs[place] = _keep(tables, account, spec) if spec.limits or account != CLUSTER else NOTHING
    if number != before:
        _drop(tables, account, before, incarnation)
    if number:
        tables.put(_key(account, number, incarnation), records.encode(spec.origin))


def withdraw(tables: Tables, incarnation: int, instance: Instance, account: str) -> None:
    """Forget what a departing instance published for one of its accounts."""
    _drop(tables, account, instance.specs[instance.accounts.index(account)], incarnation)


def _keep(tables: Tables, account: str, spec: AccountSpec) -> int:
    """The number of a spec, which is kept from now on where it was not."""
    kept = records.encode(msgspec.structs.replace(spec, origin=""))
    number = NOTHING
    for key, value in tables.scan(named(SPEC, account)):
        number = _number_in(key)
        if value == kept:
            return number
    tables.put(named(SPEC, account) + numbers(number + 1), kept)
    return number + 1


def _drop(tables: Tables, account: str, number: int, incarnation: int) -> None:
    """Take an instance from those who publish a spec; with the last of them goes the spec."""
    if number == NOTHING:
        return
    tables.delete(_key(account, number, incarnation))
    if tables.first(_key(account, number)) is None:
        tables.delete(named(SPEC, account) + numbers(number))


def _origin(tables: Tables, account: str, number: int) -> str:
    first = tables.first(_key(account, number))
    assert first is not None, f"nobody publishes spec {number} of {account}"
    return records.decode_origin(first[1])


def _key(account: str, number: int, *incarnation: int) -> bytes:
    """Where it stands that an instance publishes a spec; without one, the prefix of all who do."""
    return named(PUBLISHED, account) + numbers(number, *incarnation)


def _number_in(key: bytes) -> int:
    number: int = unpack_one(key[-8:])[0]
    return number
