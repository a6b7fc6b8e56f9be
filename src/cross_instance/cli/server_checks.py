"""The doctor's checks of a Redis or Valkey server: version, distance, eviction, persistence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.cli.checks import Check
from cross_instance.stores.redis.health import examine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.stores.redis.health import Health

FAR = 0.005
"""Seconds of a round trip from which it is worth a word: each permit takes two."""
KEPT = "noeviction"
"""The only `maxmemory-policy` under which a full server refuses to write instead of forgetting what we wrote."""


def findings(url: str) -> Iterator[Check]:
    """Everything about the server at a URL. Raises `ConfigError`, `StoreUnavailable`."""
    health = examine(url)
    yield _server(health)
    yield _distance(health)
    yield _eviction(health)
    yield _persistence(health)


def _server(health: Health) -> Check:
    name = f"{health.name.capitalize()} {health.version}"
    if health.role == "slave":
        mend = "give the primary's address, or that of Sentinels: redis+sentinel://host:26379/service"
        return Check("server", "fail", f"{name} is a read-only replica", mend)
    return Check("server", "ok", name)


def _distance(health: Health) -> Check:
    finding = f"a round trip takes {health.round_trip * 1000:.2f} ms, a permit two"
    if health.round_trip > FAR:
        return Check("latency", "warn", finding, "use a server that is nearer to the processes")
    return Check("latency", "ok", finding)


def _eviction(health: Health) -> Check:
    policy = health.eviction or "unknown"
    if health.maxmemory == 0 or policy == KEPT:
        return Check("eviction", "ok", f"nothing is evicted (maxmemory-policy {policy})")
    mend = f"set maxmemory-policy {KEPT}, or keep this data on a server of its own"
    if health.eviction is None:
        return Check("eviction", "warn", "the server does not tell its maxmemory-policy", mend)
    finding = f"a full server forgets limits, permits and tasks (maxmemory-policy {policy})"
    return Check("eviction", "fail", finding, mend)


def _persistence(health: Health) -> Check:
    if health.is_appended is None:
        return Check("persistence", "ok", "the server does not tell whether it keeps an append-only file")
    if health.is_appended:
        return Check("persistence", "ok", "the server keeps an append-only file")
    finding = "without an append-only file a restarted server has forgotten everything, tasks too: all begin anew"
    return Check("persistence", "warn", finding, "set appendonly yes where that matters")
