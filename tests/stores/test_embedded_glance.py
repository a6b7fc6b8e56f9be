"""The embedded store's shortest way: what is decided at a glance is as safe as everything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec
import pytest

from cross_instance.rules.apply import AT_A_GLANCE
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Fenced,
    Granted,
    Join,
    Joined,
    Kind,
    LimitSpec,
    Settle,
    Snapshot,
    Waiting,
)
from cross_instance.stores import database
from cross_instance.stores.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT = "acme/main"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "store")
    yield store
    store.close()


def enter(store: EmbeddedStore, slots: int) -> int:
    joined = store.run(Join("one", "nonce", os.getpid(), "machine", "host"))
    assert isinstance(joined, Joined)
    spec = AccountSpec((LimitSpec(Kind.CONCURRENCY, slots), LimitSpec(Kind.REQUESTS, 60_000, 60_000)))
    assert isinstance(store.run(Configure(joined.incarnation, ACCOUNT, spec)), Configured)
    return joined.incarnation


def acquire(store: EmbeddedStore, incarnation: int, seq: int, model: str = "") -> Granted | object:
    return store.run(Acquire(incarnation, seq, ACCOUNT, revision=1, model=model))


def held(store: EmbeddedStore) -> list[int]:
    return [node.held for node in store.run(Snapshot()).nodes if node.node == ACCOUNT]


def look_and_raise(error: BaseException) -> Callable[..., None]:
    """Decide and write as usual, then fail."""

    def look(*arguments: Any) -> None:
        assert AT_A_GLANCE[Acquire](*arguments) is not None
        raise error

    return look


def looking_with(monkeypatch: pytest.MonkeyPatch, look: Callable[..., None]) -> None:
    monkeypatch.setattr("cross_instance.stores.environment.AT_A_GLANCE", {Acquire: look})


@pytest.mark.parametrize("error", [lmdb.DiskError("input/output"), msgspec.DecodeError("damaged")])
def test_an_error_at_a_glance_is_left_to_the_rules(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    incarnation = enter(store, 1)
    looking_with(monkeypatch, look_and_raise(error))
    assert isinstance(acquire(store, incarnation, 1), Granted)
    assert held(store) == [1], "what the glance had written is gone; the rules found the slot free"


def test_an_interrupt_at_a_glance_leaves_nothing_behind(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    incarnation = enter(store, 1)
    with monkeypatch.context() as patch:
        looking_with(patch, look_and_raise(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            acquire(store, incarnation, 1)
    assert held(store) == [0]
    assert isinstance(acquire(store, incarnation, 2), Granted), "decided by what is stored, not by what was to be"
    assert isinstance(acquire(store, incarnation, 3), Waiting)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_map_that_fills_up_with_permits_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.setattr(database, "FIRST_SIZE", 1 << 18)
    if not in_place:
        monkeypatch.setattr(database, "IN_PLACE", frozenset())
    store = EmbeddedStore(tmp_path / "store")
    incarnation = enter(store, 2_000)
    for seq in range(1, 501):
        assert isinstance(acquire(store, incarnation, seq, "m" * 1_000), Granted)
    assert held(store) == [500]
    assert all(store.run(Settle(incarnation, seq)).known for seq in range(1, 501))
    assert held(store) == [0]
    store.close()


def test_figures_that_no_record_can_hold_are_refused(store: EmbeddedStore) -> None:
    incarnation = enter(store, 1)
    for seq in (-1, 1 << 64):
        with pytest.raises(ValueError):
            acquire(store, incarnation, seq)
        with pytest.raises(ValueError):
            store.run(Settle(incarnation, seq))
    assert isinstance(store.run(Acquire(incarnation + 1, 1, ACCOUNT, revision=1)), Fenced)
    assert isinstance(acquire(store, incarnation, 1), Granted)
    assert store.run(Settle(incarnation, 1)).known
