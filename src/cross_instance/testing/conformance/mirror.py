"""A store held against the model: every operation runs on both, at the same instant, and must answer the same.

1. The store decides first; the model replays the operation at the result's own `at`. So a store needs no clock that
   is moved by hand to be compared exactly.
2. Results are equal in every field. Only the order of wakes is free.
3. Where the store raises `ValueError` the model does too, and on both sides nothing has changed.
4. The instants of a store never run backwards.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import msgspec

from cross_instance.rules.apply import apply
from cross_instance.rules.operations import Instant, Operation, Result, Wake
from cross_instance.stores.memory import DictTables

if TYPE_CHECKING:
    from typing import Any

    from cross_instance.stores.base import Permit

    R = TypeVar("R", bound=Result)

TRAIL = 12
"""How many of the last operations a failure shows."""


class ConformanceError(AssertionError):
    """A store does not do what the interface promises; the message tells what led there."""


class Deciding(Protocol):
    """What decides operations: a `Store`, or that part of one alone."""

    def run(self, op: Operation[R], /) -> R:
        """See `Store.run`."""


class Mirror:
    """`run` of a store under test, with the model beside it.

    It keeps the wakes by waiter: `offers` are the waiters told to look at once, `timers` the instants (mono µs) for
    which the others were told to look. `compared` operations were answered, or refused, alike until now.
    """

    def __init__(self, store: Deciding) -> None:
        self.store = store
        self.compared = 0
        self.offers: set[Permit] = set()
        self.timers: dict[Permit, int] = {}
        self._tables = DictTables()
        self._last = Instant(0, 0)
        self._trail: deque[tuple[Operation[Any], Result | str]] = deque(maxlen=TRAIL)

    def run(self, op: Operation[R], via: Deciding | None = None) -> R:
        """Decide one operation on both sides; `via` is another store on the same state.

        Raises `ConformanceError` where they differ, and `ValueError` where both refuse the operation's figures.
        """
        try:
            result = (via or self.store).run(op)
        except ValueError as error:
            self._trail.append((op, f"ValueError: {error}"))
            self._must_refuse(op)
            self.compared += 1
            raise
        self._trail.append((op, result))
        self._compare(op, result)
        self.compared += 1
        self._note(result)
        return result

    def forget(self, permit: Permit) -> None:
        """Forget the wakes of a waiter that has looked."""
        self.offers.discard(permit)
        self.timers.pop(permit, None)

    def _note(self, result: Result) -> None:
        for wake in result.wakes:
            permit = (wake.incarnation, wake.seq)
            if wake.at <= result.at.mono:
                self.offers.add(permit)
            else:
                self.timers[permit] = wake.at

    def trail(self) -> str:
        """The last operations with their results, for a failure's message."""
        return "\n".join(f"  {op}\n    -> {result}" for op, result in self._trail)

    def _compare(self, op: Operation[R], result: R) -> None:
        if result.at.mono < self._last.mono:
            self._differ(f"the store's clock ran backwards, from {self._last.mono} to {result.at.mono} µs")
        self._last = result.at
        try:
            expected = apply(self._tables, op, result.at)
        except ValueError as error:
            self._differ(f"the store accepted what the model refuses: {error}")
        if _comparable(result) != _comparable(expected):
            self._differ(f"the store answered\n    {result}\nwhere the model answers\n    {expected}")

    def _must_refuse(self, op: Operation[Any]) -> None:
        tables = DictTables()
        for key, value in self._tables.scan(b""):
            tables.put(key, value)
        try:
            expected = apply(tables, op, self._last)
        except ValueError:
            return
        self._differ(f"the store raised ValueError where the model answers\n    {expected}")

    def _differ(self, text: str) -> NoReturn:
        raise ConformanceError(f"{text}\nafter\n{self.trail()}")


def _comparable(result: Result) -> tuple[Result, frozenset[Wake]]:
    return msgspec.structs.replace(result, wakes=()), frozenset(result.wakes)
