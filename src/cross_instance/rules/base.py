"""What every operation and result is built on; `operations` is where to import them from."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from cross_instance.rules.values import Data, Instant, Notice, Wake


class Result(Data, frozen=True, kw_only=True):
    """Base of every result: when it was decided, whom to wake, what must be said."""

    at: Instant
    wakes: tuple[Wake, ...] = ()
    notices: tuple[Notice, ...] = ()


R_co = TypeVar("R_co", bound=Result, covariant=True)


class Operation(Data, Generic[R_co], frozen=True):
    """Base of every operation; the type parameter is what it answers."""

    durable: ClassVar[bool] = False
    """Whether its effect must survive a power cut before the answer is given."""
    lengthy: ClassVar[bool] = False
    """Whether it goes through all that an instance or a store holds: nothing for an event loop's thread."""


class Fenced(Result, frozen=True, kw_only=True):
    """The incarnation is no longer valid: it was silent too long, or another process took its id. Join anew."""
