"""Calls: how an operation is sent, repeated and given up, without any I/O.

`decide` is a generator that yields a `Command` to be sent, and is sent its reply or thrown its error, or a `Pause` to
be slept. A synchronous and an asynchronous driver perform the steps; everything else is the same code.

1. An operation is sent as EVALSHA; a server that does not know the script (new, flushed, failed over) is taught it,
   once in any case: a process may have been stopped for longer than its patience before it read that answer.
2. A passing fault is repeated, at once the first time and then with growing pauses, until the patience of the address,
   or of the settings, is over. Every operation may be sent twice, so a call that was cut in the middle is repeated like
   any other.
3. Whoever is about to end is in `Haste`: calls, also those under way, are repeated only until then.
4. An answer that was lost may have held wakes: after a repetition all waiters of this process ask for themselves.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redis import exceptions

from cross_instance.errors import ConfigError
from cross_instance.rules.operations import Result
from cross_instance.stores.redis.faults import ERRORS, fault_of
from cross_instance.stores.redis.wire import pack

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation
    from cross_instance.stores.redis.scripts import Script
    from cross_instance.stores.redis.shared import Shared

R = TypeVar("R", bound=Result)
T = TypeVar("T")

SHORTEST, LONGEST = 0.01, 0.25
"""Seconds of the first pause before repeating, which doubles, and of the longest."""

OLDEST = {"redis": (6, 2), "valkey": (8, 0)}
"""The first versions that this package is tested for."""


class Haste:
    """By when the calls of one store are to be over, whatever else its patience."""

    def __init__(self) -> None:
        self.until = math.inf
        """A monotonic instant in seconds."""

    def left(self, most: float) -> float:
        """For how long something may take that otherwise takes so many seconds at most."""
        return max(SHORTEST, min(most, self.until - time.monotonic()))


class Pause(NamedTuple):
    """Do nothing for so many seconds."""

    seconds: float


Command = bytes
"""A command as the server reads it."""
Step = Command | Pause
Flow = Generator[Step, Any, T]


def decide(shared: Shared, op: Operation[R], haste: Haste) -> Flow[R]:
    """Have the server decide an operation.

    Raises `StoreUnavailable`; `ConfigError` where the server refuses the store's settings at its first answer;
    `ValueError` where the operation's figures are refused.
    """
    script, command = shared.command(op)
    if not shared.proven:
        yield from prove(shared, haste)
    reply, repeated = yield from _answered(shared, haste, command, script)
    return shared.received(op, reply, repeated=repeated)


def prove(shared: Shared, haste: Haste) -> Flow[None]:
    """Make sure that the server is one for us. Raises `ConfigError` where it is too old."""
    try:
        info, _ = yield from _answered(shared, haste, pack("INFO", "server"))
    except ConfigError as error:
        if not isinstance(error.__cause__, exceptions.NoPermissionError):
            raise
    else:
        check_version(info, shared.address.shown)
    shared.proven = True


def version_of(info: bytes) -> tuple[str, str]:
    """The server's name ("redis" or "valkey") and version, from its INFO."""
    said = dict(re.findall(r"^(\w+):(.*?)\r?$", info.decode(errors="replace"), re.MULTILINE))
    if "valkey_version" in said:
        return "valkey", said["valkey_version"]
    return "redis", said.get("redis_version", "")


def check_version(info: bytes, shown: str) -> None:
    """Raises `ConfigError` for a server that is too old; one that does not tell its version may be tried."""
    name, version = version_of(info)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < OLDEST[name]:
        needed = ".".join(map(str, OLDEST[name]))
        message = f"{shown} is {name.capitalize()} {version}; {name.capitalize()} {needed} or newer is needed"
        raise ConfigError(message, key="store")


def _answered(shared: Shared, haste: Haste, command: Command, script: Script | None = None) -> Flow[tuple[Any, bool]]:
    """A command's reply, and whether the command may have been carried out more than once."""
    deadline = time.monotonic() + shared.patience
    pause, failures, is_unknown = 0.0, 0, False
    while True:
        try:
            if script is not None and is_unknown:
                yield from _teach(shared, script)
            return (yield command), failures > 0
        except ERRORS as error:
            fault = fault_of(error)
            shared.servers.lost(fault)
            was_taught, is_unknown = is_unknown, fault.code == "NOSCRIPT"
            is_late = time.monotonic() + pause >= min(deadline, haste.until) and (was_taught or not is_unknown)
            if not fault.passing or is_late:
                raise fault.told(shared.address.shown, proven=shared.proven) from error
        if is_unknown:
            continue
        if pause or not fault.elsewhere:
            yield Pause(max(pause, SHORTEST))
        failures, pause = failures + 1, min(max(2 * pause, SHORTEST), LONGEST)


def _teach(shared: Shared, script: Script) -> Flow[None]:
    """Give the server a script that it does not know; who needs the same one meanwhile waits a moment."""
    if script.sha in shared.teaching:
        yield Pause(SHORTEST)
        return
    shared.teaching.add(script.sha)
    try:
        yield pack("SCRIPT", "LOAD", script.text)
    finally:
        shared.teaching.discard(script.sha)
