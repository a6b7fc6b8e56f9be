"""A limit that nobody is told, found by processes of their own: what provider and store say of it agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import Target

from cross_instance.rules.operations import LearnedState, NodeState, Snapshot
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.stores.folder import coordination_path
from cross_instance.testing.provider import Constant, Fault, Limit, ProviderConfig, ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES, TIMES = 3, 25
SETTINGS: dict[str, Any] = {"providers": {"openai": {"requestsPerMinute": 6_000, "burst": 10}}}
SILENT: dict[str, Any] = {
    "rate_limit_headers": False,
    "retry_after": False,
    "name_limits": False,
    "faults": (Fault("429", first=5, last=5),),
}
"""It says nothing but 429, once also on a machine too slow to meet the limit."""
ACCOUNT = "openai/one"


def account(folder: Path) -> NodeState:
    store = EmbeddedStore(folder / "runtime")
    try:
        return next(node for node in store.run(Snapshot()).nodes if node.node == ACCOUNT)
    finally:
        store.close()


def learned(folder: Path) -> LearnedState:
    state = account(folder).learned
    assert state is not None
    return state


def work(folder: Path, url: str, times: int) -> list[str]:
    """Three processes call the provider, all at once; what they got."""
    targets = [Target("openai", "one", "gpt-4o", f"{url}/v1/chat/completions")]
    with Herd() as herd:
        where = {"folder": folder, "settings": SETTINGS, "targets": targets}
        callers = herd.begin(parts.call, PROCESSES, times=times, **where)
        for caller in callers:
            assert herd.end(caller) == 0
        herd.hear_out()
        return [event.rest[1] for event in herd.events if event.word == "answered"]


@pytest.mark.parametrize(
    "limit",
    [Limit("requests", 1_200, burst=5), Limit("requests", 20, period=1.0, window="fixed")],
    ids=["bucket", "window"],
)
def test_every_call_is_answered_and_every_429_is_learned_from(tmp_path: Path, limit: Limit) -> None:
    with ProviderServer(ProviderConfig(limits=(limit,), latency=Constant(0.1), **SILENT)) as server:
        assert work(tmp_path, server.url, TIMES) == ["200"] * PROCESSES * TIMES
        seen = server.statistics().total
    state, node = learned(tmp_path), account(tmp_path)
    assert (seen.accepted, state.rejected) == (PROCESSES * TIMES, seen.rejected)
    assert state.granted == seen.accepted + seen.rejected
    assert seen.rejected >= 1
    assert state.ceiling == 6_000_000
    assert state.started == 6_000_000
    assert state.rate <= state.ceiling
    assert node.held == 0
    assert 1 <= max(node.epochs) <= seen.rejected


def test_what_was_learned_outlives_the_boot(tmp_path: Path) -> None:
    limit = Limit("requests", 1_200, burst=5)
    with ProviderServer(ProviderConfig(limits=(limit,), latency=Constant(0.1), **SILENT)) as server:
        work(tmp_path, server.url, TIMES)
        before = learned(tmp_path)
        coordination_path(tmp_path / "runtime").unlink()
        work(tmp_path, server.url, 1)
    after = learned(tmp_path)
    assert after.started == before.started
    assert (after.estimate or after.rate) == (before.estimate or before.rate)
    assert after.reason == "resumed"
