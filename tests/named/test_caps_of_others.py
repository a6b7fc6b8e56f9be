"""A cap that one machine has set holds for another that never looks at the store: every permit is decided there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.runtime.doubles import settings_in
from tests.runtime.nets import beat_by_hand
from tests.stores.redis_fixtures import server, shared_server, store

from cross_instance import RateLimitExceeded, Runtime
from cross_instance.rules.operations import Acquire, Settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cross_instance import Permit

__all__ = ["server", "shared_server", "store"]

ACCOUNT: dict[str, Any] = {"requestsPerMinute": 60_000, "burst": 1_000}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def machine(stack: ExitStack, folder: Path, store: str, **account: Any) -> Runtime:
    """An instance with a runtime folder of its own, that logs nothing and watches nobody."""
    settings = settings_in(folder, store=store, logging=False, providers={"acme": {**ACCOUNT, **account}})
    return stack.enter_context(Runtime(folder.name, settings=settings))


def take(runtime: Runtime, count: int) -> list[Permit]:
    return [runtime.permit("acme", "big-1", timeout=0).acquire() for _ in range(count)]


def overload(runtime: Runtime, count: int) -> None:
    """So many calls at once meet one overload, and the instance has heard of it."""
    activity = runtime._membership.activity
    with activity._ticking:
        for permit in take(runtime, count):
            permit.settle(outcome="overloaded", headers={})
            permit.close()
        activity.tick()


@pytest.mark.parametrize("models", [{}, {"big-*": {"requestsPerMinute": 6_000, "burst": 1_000}}])
def test_who_only_sends_is_capped_with_its_next_request(
    stack: ExitStack, tmp_path: Path, store: str, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at a group of models that only the other one configures, by a route that was remembered before."""
    sender = machine(stack, tmp_path / "sender", store)
    one = machine(stack, tmp_path / "one", store, models=models)
    take(one, 1)[0].close()
    for permit in take(sender, 20):  # it knows the account, and where its permits come from
        permit.close()
    beat_by_hand(sender)  # its heartbeat thread looks at nothing either
    asked: list[object] = []
    run = sender._membership.store._store.run

    def spy(op: Any, /) -> Any:
        asked.append(type(op))
        return run(op)

    monkeypatch.setattr(sender._membership.store._store, "run", spy)
    overload(one, 10)
    held = take(sender, 7)  # ten less 30 %
    with pytest.raises(RateLimitExceeded, match=r"7 at a time \(learned\)"):
        take(sender, 1)
    for permit in held:
        permit.close()
    assert set(asked) == {Acquire, Settle}, "nothing told it but the answers to its own questions"
