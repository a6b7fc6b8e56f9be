"""The other side: a provider with a limit that nobody is told, in the shapes in which limits occur.

1. A bucket of `span` seconds' worth refills continuously; a fixed window of `span` seconds starts anew at its boundary,
   wherever that lies when the simulation starts.
2. A rejected request costs nothing. With `retry_after` the answer says, in whole seconds rounded up as in HTTP, when
   one more request would be let in.
3. The limit may change on a schedule; a bucket then keeps what it holds, a window what it has let in.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How a provider applies its limit. `phase`: where in its first window the simulation starts, 0 to 1."""

    name: str
    windowed: bool
    span: int
    retry_after: bool
    phase: float = 0.4


SHAPES = tuple(
    Shape(f"{'window' if windowed else 'bucket'} {span} s{', Retry-After' if told else ''}", windowed, span, told)
    for windowed in (False, True)
    for span in (10, 60)
    for told in (False, True)
)


class Provider:
    """Lets requests in up to `limit` a minute and up to `slots` at once."""

    def __init__(self, shape: Shape, limit: float, slots: int | None = None, outages: tuple[tuple[int, int], ...] = ()):
        self.shape = shape
        self.slots = slots
        self.running = 0
        self._outages = outages
        self._at = 0
        self._window = -1
        self._used = 0
        self._per_us = 0.0
        self._capacity = 0.0
        self._level = 0.0
        self.limit = 0.0
        self.change(limit)
        self._level = self._capacity

    def change(self, limit: float) -> None:
        """From now on `limit` requests a minute."""
        self.limit = limit
        self._per_us = limit / 60 / SECOND
        self._capacity = max(1.0, limit * self.shape.span / 60)
        self._level = min(self._level, self._capacity)

    def arrive(self, now: int) -> tuple[bool, int | None]:
        """Whether a request is let in, and the Retry-After, in µs, of one that is not."""
        if self.slots is not None and self.running >= self.slots:
            return False, None
        if any(start <= now < end for start, end in self._outages):
            return False, None
        wait = self._wait_in_window(now) if self.shape.windowed else self._wait_for_token(now)
        if wait:
            return False, -(-wait // SECOND) * SECOND if self.shape.retry_after else None
        self.running += 1
        return True, None

    def finish(self) -> None:
        """A call has ended."""
        self.running -= 1

    def _wait_in_window(self, now: int) -> int:
        span = self.shape.span * SECOND
        now += int(self.shape.phase * span)
        window = now // span
        if window != self._window:
            self._window, self._used = window, 0
        if self._used + 1 > self._capacity:
            return (window + 1) * span - now
        self._used += 1
        return 0

    def _wait_for_token(self, now: int) -> int:
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_us)
        self._at = now
        if self._level < 1:
            return int((1 - self._level) / self._per_us) + 1
        self._level -= 1
        return 0
