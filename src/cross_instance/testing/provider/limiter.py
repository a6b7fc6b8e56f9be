"""The referee: what a provider's limiter admits, in exact integer arithmetic.

1. Time is an argument, in microseconds; nothing here reads a clock.
2. A request takes from every limit that applies to it, or from none.
3. A bucket is one number: the instant at which it will be full again, scaled by its rate so that it stays whole.
   Taking units moves that instant; a request fits while it stays less than a whole burst away.
4. A fixed window counts what was taken since its start and forgets it at its end.
5. What is found out later (generated output, a corrected estimate) is charged later and may be owed.

It is written from the providers' documentation alone and shares nothing with the rules it is used to test.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.errors import ConfigError
from cross_instance.testing.provider.config import Limit, LimitKind, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.testing.provider.charging import Charge


class LimitView(NamedTuple):
    """A limit as seen by an account: `remaining` units (never below 0), and µs until all of it is there again."""

    limit: Limit
    remaining: int
    full_in: int


class Refusal(NamedTuple):
    """Why a request was not admitted: the limit that holds it back longest, and for how long.

    `wait` µs; None where no time can be told (a slot must free, or the request exceeds the limit by itself).
    """

    limit: Limit
    requested: int
    available: int
    wait: int | None

    @property
    def too_large(self) -> bool:
        """Whether the request exceeds the limit by itself."""
        return self.requested > self.limit.capacity


class Bucket:
    """A token bucket: `amount` units per period, at most `burst` at once."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._rate = limit.amount
        self._unit = limit.period_us
        self._size = limit.capacity * limit.period_us
        self._full_at = 0

    def missing(self, now: int) -> int:
        """What is missing to a full bucket, in units times period."""
        return max(0, self._full_at - now * self._rate)

    def available(self, now: int) -> int:
        """Whole units there now; negative when units are owed."""
        return (self._size - self.missing(now)) // self._unit

    def wait(self, units: int, now: int) -> int | None:
        """µs until `units` fit; None if they never do."""
        if units > self.limit.capacity:
            return None
        return max(0, -((self._size - self.missing(now) - units * self._unit) // self._rate))

    def take(self, units: int, now: int) -> None:
        """Take units, owing them if need be; negative units are given back, up to a full bucket."""
        self._full_at = now * self._rate + max(0, self.missing(now) + units * self._unit)

    def correct(self, units: int, now: int, taken_at: int) -> None:  # noqa: ARG002 - a window needs it
        """Correct what was taken at `taken_at` by `units`, up or down."""
        self.take(units, now)

    def penalise(self, units: int, now: int) -> None:
        """Take units from a refused request, but owe nothing."""
        missing = self.missing(now)
        self._full_at = now * self._rate + max(missing, min(self._size, missing + units * self._unit))

    def full_in(self, now: int) -> int:
        """µs until the bucket is full."""
        return -(-self.missing(now) // self._rate)

    def change(self, limit: Limit, now: int) -> None:
        """Go on with other figures for the same period: what was spent stays spent."""
        spent = self.missing(now)
        self.limit, self._rate, self._size = limit, limit.amount, limit.capacity * limit.period_us
        self._full_at = now * self._rate + spent


class FixedWindow:
    """At most `amount` units in each window of `period`, the windows following one another from instant 0."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._window = 0
        self._used = 0

    def available(self, now: int) -> int:
        """Units left in the present window; negative when more was charged than it holds."""
        self._roll(now)
        return self.limit.amount - self._used

    def wait(self, units: int, now: int) -> int | None:
        """µs until `units` fit: now, in the next window, or never (None)."""
        if units > self.limit.amount:
            return None
        return 0 if units <= self.available(now) else self.full_in(now)

    def take(self, units: int, now: int) -> None:
        """Count units in the present window; negative units are given back, down to an unused window."""
        self._roll(now)
        self._used = max(0, self._used + units)

    def correct(self, units: int, now: int, taken_at: int) -> None:
        """Correct what was taken at `taken_at`; what a past window took too much is of no use any more."""
        if units > 0 or taken_at // self.limit.period_us == now // self.limit.period_us:
            self.take(units, now)

    def penalise(self, units: int, now: int) -> None:
        """Count the units of a refused request."""
        self.take(units, now)

    def full_in(self, now: int) -> int:
        """µs until the window ends."""
        return self.limit.period_us - now % self.limit.period_us

    def change(self, limit: Limit, now: int) -> None:  # noqa: ARG002 - the same call for every limit
        """Go on with another amount; what the present window has used stays used."""
        self.limit = limit

    def _roll(self, now: int) -> None:
        window = now // self.limit.period_us
        if window != self._window:
            self._window, self._used = window, 0


class Slots:
    """At most `amount` requests at once."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._held = 0

    def available(self, now: int) -> int:  # noqa: ARG002 - the same call for every limit
        """Free slots; negative when the limit was lowered below what runs."""
        return self.limit.amount - self._held

    def wait(self, units: int, now: int) -> int | None:
        """0 if a slot is free; otherwise nobody knows when (None)."""
        return 0 if units <= self.available(now) else None

    def take(self, units: int, now: int) -> None:  # noqa: ARG002
        """Take slots, or give them back (negative)."""
        self._held += units

    def correct(self, units: int, now: int, taken_at: int) -> None:
        """Slots are not corrected, they are given back with `take`."""

    def penalise(self, units: int, now: int) -> None:
        """A refused request holds no slot."""

    def full_in(self, now: int) -> int:  # noqa: ARG002
        """0: slots do not refill with time."""
        return 0

    def change(self, limit: Limit, now: int) -> None:  # noqa: ARG002
        """Go on with another number of slots; those held stay held."""
        self.limit = limit


Meter = Bucket | FixedWindow | Slots
Identity = tuple[LimitKind, Window, int, str, str]


class Limiter:
    """The limits of all accounts, each account with its own meters."""

    def __init__(self, limits: Sequence[Limit] = ()) -> None:
        self._limits = _distinct(limits)
        self._meters: dict[tuple[str, Identity], Meter] = {}

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return tuple(self._limits.values())

    def admit(self, account: str, provider: str, model: str, charge: Charge, now: int) -> Admission | Refusal:
        """Take what the request costs on arrival from every limit that applies, or from none and say why."""
        meters = self._applying(account, provider, model)
        refusals = [
            Refusal(meter.limit, needed, meter.available(now), wait)
            for meter in meters
            if (wait := meter.wait(needed := charge.needed(meter.limit.kind), now)) != 0
        ]
        if refusals:
            return max(refusals, key=lambda refusal: (refusal.too_large, refusal.wait or 0))
        for meter in meters:
            meter.take(charge.arrival(meter.limit.kind), now)
        return Admission(meters, now)

    def penalise(self, account: str, provider: str, model: str, charge: Charge, now: int) -> None:
        """Charge a refused request, as some providers do; a limit in which it never fits takes nothing for it."""
        for meter in self._applying(account, provider, model):
            units = charge.arrival(meter.limit.kind)
            if units <= meter.limit.capacity:
                meter.penalise(units, now)

    def views(self, account: str, provider: str, model: str, now: int) -> list[LimitView]:
        """The limits that apply to an account's model, as its headers would show them."""
        return [
            LimitView(meter.limit, max(0, meter.available(now)), meter.full_in(now))
            for meter in self._applying(account, provider, model)
        ]

    def replace(self, limits: Sequence[Limit], now: int) -> None:
        """Put other limits in force. One that differs only in amount or burst goes on where it stood."""
        self._limits = _distinct(limits)
        self._meters = {key: meter for key, meter in self._meters.items() if key[1] in self._limits}
        for (_, identity), meter in self._meters.items():
            meter.change(self._limits[identity], now)

    def _applying(self, account: str, provider: str, model: str) -> list[Meter]:
        return [
            self._meters.get((account, identity)) or self._meters.setdefault((account, identity), _new_meter(limit))
            for identity, limit in self._limits.items()
            if limit.provider in ("*", provider) and (limit.models == "*" or fnmatchcase(model, limit.models))
        ]


class Admission:
    """One admitted request: what it takes later goes to the limits that admitted it."""

    def __init__(self, meters: list[Meter], taken_at: int) -> None:
        self._meters = meters
        self._taken_at = taken_at

    def correct(self, kind: LimitKind, units: int, now: int) -> None:
        """Charge `units` more of a kind (negative: fewer) than so far."""
        for meter in self._meters:
            if units and meter.limit.kind == kind:
                meter.correct(units, now, self._taken_at)

    def finish(self, now: int) -> None:
        """The request is over: its slot is free."""
        for meter in self._meters:
            if meter.limit.kind == "concurrency":
                meter.take(-1, now)
        self._meters = []


def _new_meter(limit: Limit) -> Meter:
    if limit.kind == "concurrency":
        return Slots(limit)
    return FixedWindow(limit) if limit.window == "fixed" else Bucket(limit)


def _distinct(limits: Sequence[Limit]) -> dict[Identity, Limit]:
    known: dict[Identity, Limit] = {}
    for limit in limits:
        identity = (limit.kind, limit.window, limit.period_us, limit.models, limit.provider)
        if identity in known:
            raise ConfigError(
                "given twice; two limits of one kind must differ in window, period, models or provider", key=limit.kind
            )
        known[identity] = limit
    return known
