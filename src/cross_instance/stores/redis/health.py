"""Health: what a server says of itself, as far as it matters to the store."""

from __future__ import annotations

import re
import time
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from cross_instance.stores.redis.address import parse
from cross_instance.stores.redis.calls import Haste, version_of
from cross_instance.stores.redis.connections import Connections
from cross_instance.stores.redis.faults import ERRORS, fault_of
from cross_instance.stores.redis.servers import Servers
from cross_instance.stores.redis.wire import Names, pack

if TYPE_CHECKING:
    from cross_instance.errors import CrossInstanceError

PINGS = 21
"""How many round trips are timed."""


class Health(NamedTuple):
    """A server's state. `round_trip`: the median in seconds; figures that it does not tell are None."""

    name: str
    version: str
    role: str
    round_trip: float
    eviction: str | None
    """Its `maxmemory-policy`."""
    maxmemory: int | None
    """Bytes; 0: no limit."""
    is_appended: bool | None
    """Whether it keeps an append-only file."""


def examine(url: str) -> Health:
    """Ask the server at a URL. Raises `ConfigError`, `StoreUnavailable`."""
    address = parse(url)
    servers = Servers(address)
    connections = Connections(servers, Haste())
    try:
        _find(connections, servers)
        info: bytes = connections.call(pack("INFO"))
        round_trip = median(_time_one(connections) for _ in range(PINGS))
    except ERRORS as error:
        raised: CrossInstanceError = fault_of(error).told(address.shown, proven=False)
        raise raised from error
    finally:
        connections.close()
    return _read(info, round_trip)


def _find(connections: Connections, servers: Servers) -> None:
    """Ask for the namespace: the nodes of a Cluster tell by their errors which of them has it."""
    key = Names(servers.address.namespace).keys[0]
    for others in reversed(range(len(servers.address.hosts) + 1)):
        try:
            connections.call(pack("EXISTS", key))
        except ERRORS as error:
            servers.lost(fault_of(error))
            if not others:
                raise
        else:
            return


def _time_one(connections: Connections) -> float:
    begun = time.monotonic()
    connections.call(pack("PING"))
    return time.monotonic() - begun


def _read(info: bytes, round_trip: float) -> Health:
    said: dict[str, Any] = dict(re.findall(r"^(\w+):(.*?)\r?$", info.decode(errors="replace"), re.MULTILINE))
    maxmemory, appended = said.get("maxmemory"), said.get("aof_enabled")
    return Health(
        *version_of(info),
        role=said.get("role", ""),
        round_trip=round_trip,
        eviction=said.get("maxmemory_policy"),
        maxmemory=None if maxmemory is None else int(maxmemory),
        is_appended=None if appended is None else appended == "1",
    )
