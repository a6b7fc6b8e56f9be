"""What a permit leaves behind for its instance's activity: that it was granted, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cross_instance.providers.usage import Usage
    from cross_instance.rules.operations import Outcome, Signals


class Begun(NamedTuple):
    """A permit was granted; `account` as operations name it."""

    account: str
    provider: str
    model: str


class Ended(NamedTuple):
    """A permit was settled. `group` is its model's pattern, or "".

    Instants are this process's monotonic ns, `duration` and `first_token` µs from sending. `operation`: what was asked
    for (`providers.requests.OPERATIONS`); `usage` None: not known.
    """

    account: str
    group: str
    provider: str
    model: str
    outcome: Outcome
    signals: Signals
    granted_at: int
    ended_at: int
    duration: int
    first_token: int | None
    operation: str
    usage: Usage | None
