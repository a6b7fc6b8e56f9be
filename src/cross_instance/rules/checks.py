"""Names and figures that a store can hold: anything else is a `ValueError` before anything is changed.

Integers stay below 2^53, where Lua's doubles are exact, and so do the products that the rules form of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.learning_desk import factors
from cross_instance.rules.limits import EXACT, new_limit, units_of
from cross_instance.rules.operations import CLUSTER, FOREVER
from cross_instance.rules.tables import MAX_NAME

if TYPE_CHECKING:
    from cross_instance.rules.operations import Acquire, Configure, Costs, Instant, Join, Lock, Settle, Sweep

MOST_UNITS = (1 << 30) - 1
MOST_WEIGHT = 1_000_000
MOST_RESERVE = 1_000_000


def acquire(op: Acquire) -> None:
    """Costs and the fence; what an account does not know is found elsewhere."""
    for units in units_of(op.costs):
        within("costs", units, 0, MOST_UNITS)
    within("seq", op.seq, 0, EXACT - 1)
    within("timeout", op.timeout, 0, EXACT - 1)
    within("priority", op.priority, 0, 4)


def is_storable(costs: Costs) -> bool:
    """Whether units are such as can be charged."""
    units = units_of(costs)
    return min(units) >= 0 and max(units) <= MOST_UNITS


def settle(op: Settle) -> None:
    """What was used and measured, and what the provider said."""
    if op.usage is not None:
        for units in units_of(op.usage):
            within("usage", units, 0, MOST_UNITS)
    within("delay", op.delay, 0, FOREVER)
    within("draw", op.draw, 0, (1 << 32) - 1)
    if op.signals.retry_after is not None:
        within("retry_after", op.signals.retry_after, 0, EXACT - 1)
    for told in op.signals.told:
        within("remaining", told.remaining or 0, 0, EXACT - 1)


def join(op: Join) -> None:
    """The instance's name and its timeout."""
    name("instance id", op.instance_id)
    within("timeout", op.timeout, 1, FOREVER // 2)


def configure(op: Configure, at: Instant) -> None:
    """The account's name, patterns, every limit, weight and reserve."""
    if op.account != CLUSTER:
        name("account", op.account)
    if "#" in op.account:
        raise ValueError(f"account {op.account!r}: '#' separates accounts from model groups")
    for pattern, _ in op.spec.groups:
        name("model pattern", pattern)
    for limits in (op.spec.limits, *(limits for _, limits in op.spec.groups)):
        for limit in limits:
            new_limit(limit, at)
    if op.spec.learning is not None:
        factors(op.spec.learning)
    within("spread", op.spec.spread, 0, FOREVER)
    within("ageing", op.spec.ageing, 0, FOREVER)
    within("weight", op.weight, 1, MOST_WEIGHT)
    within("reserve", op.reserve, 0, 0 if op.account == CLUSTER else MOST_RESERVE)


def lock(op: Lock) -> None:
    """The resource's name and the time to live."""
    name("resource", op.resource)
    within("ttl", op.ttl, 1, FOREVER // 2)


def sweep(op: Sweep) -> None:
    """The time awake."""
    within("awake", op.awake, 0, FOREVER)


def name(what: str, text: str) -> None:
    """A name that fits a key."""
    if not text or len(text.encode(errors="surrogatepass")) > MAX_NAME or "\0" in text:
        raise ValueError(f"{what} {text!r}: 1 to {MAX_NAME} bytes without a zero byte are accepted")


def within(what: str, figure: int, least: int, most: int) -> None:
    """A figure in its range."""
    if not least <= figure <= most:
        raise ValueError(f"{what} {figure}: {least} to {most} are accepted")
