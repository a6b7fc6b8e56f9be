"""A feed on the server: what the instances of a namespace tell, for those of other machines.

1. It is one stream of at most `MOST` entries that expires when nothing was told for `LASTS`. Each entry is what one
   instance told at once, so the events of each stand in their order.
2. Nothing is decided here, and nothing is repeated: a call that fails is for the caller to make again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.stores.base import Told
from cross_instance.stores.redis.faults import ERRORS, fault_of
from cross_instance.stores.redis.wire import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.stores.redis.connections import Connections
    from cross_instance.stores.redis.shared import Shared

MOST = 5_000
"""Entries that are kept."""
LASTS = 3_600_000
"""Milliseconds after the last entry for which the stream is kept."""
AT_ONCE = 500
"""Entries that are read at once."""

_ADD = (
    "redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'from', ARGV[3], 'lines', ARGV[4]) "
    "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
)


class ServerFeed:
    """See `stores.base.Feed`; for any thread."""

    def __init__(self, shared: Shared, connections: Connections) -> None:
        self._shared = shared
        self._connections = connections

    def add(self, origin: str, lines: Sequence[str]) -> None:
        """See `Feed.add`."""
        self._call(pack("EVAL", _ADD, 1, self._shared.feed_key, MOST, LASTS, origin, "\n".join(lines)))

    def read(self, after: str) -> Told:
        """See `Feed.read`."""
        entries = self._call(pack("XRANGE", self._shared.feed_key, after, "+", "COUNT", AT_ONCE))
        known = (dict(zip(fields[::2], fields[1::2], strict=False)) for _, fields in entries)
        found = [
            (of[b"from"].decode(errors="replace"), of[b"lines"].split(b"\n"))
            for of in known
            if of.keys() >= {b"from", b"lines"}  # what another version adds is not for this one
        ]
        return Told(f"({entries[-1][0].decode()}" if entries else after, found)

    def beginning(self) -> str:
        """See `Feed.beginning`."""
        return "-"

    def now(self) -> str:
        """See `Feed.now`."""
        return str(self._shared.now() // 1_000)

    def _call(self, command: bytes) -> Any:
        self._shared.check()
        try:
            return self._connections.call(command)
        except ERRORS as error:
            fault = fault_of(error)
            self._shared.servers.lost(fault)
            raise fault.told(self._shared.address.shown, proven=True) from error
