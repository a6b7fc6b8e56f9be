"""What a law is, and how the suite gets the stores that it checks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from cross_instance.stores.base import AsyncStore, Store
from cross_instance.testing.clock import FakeClock
from cross_instance.testing.conformance.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

S = TypeVar("S", Store, AsyncStore)


class Need(Enum):
    """What a law needs of the stores it is checked on."""

    CLOCK = "a store that decides at the instants of a given clock"
    SHARING = "several stores on one state, used from several threads"
    LEARNING = "a store that learns hidden limits"


@dataclass(frozen=True)
class Under(Generic[S]):
    """A kind of store, as the suite gets it; `StoreUnderTest` and `AsyncStoreUnderTest` are its two forms.

    `open(space, clock)` gives a store on the state named `space`, which is empty where the name is new; names are
    letters, digits, `-` and `_`. `clock` is None unless `takes_clock`: a store that takes one decides at its
    instants. `shares`: the same space can be opened again, and its stores used from several threads. `learns`: hidden
    limits are learned where an account says how.
    """

    open: Callable[[str, FakeClock | None], S]
    takes_clock: bool = True
    shares: bool = True
    learns: bool = True

    def clock(self) -> FakeClock | None:
        """A clock moved by hand, where such stores take one."""
        return FakeClock() if self.takes_clock else None

    def lacks(self, needs: frozenset[Need]) -> frozenset[Need]:
        """Which of a law's needs such stores do not meet."""
        met = {Need.CLOCK: self.takes_clock, Need.SHARING: self.shares, Need.LEARNING: self.learns}
        return frozenset(need for need in needs if not met[need])


StoreUnderTest = Under[Store]
AsyncStoreUnderTest = Under[AsyncStore]


def new_space(name: str) -> str:
    """A name that no earlier run has used."""
    return f"{name}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Law:
    """One promise of the interface: its name, its sentence, and how it is checked on a fresh store."""

    name: str
    sentence: str
    needs: frozenset[Need]
    body: Callable[..., Any]

    def check(self, store: StoreUnderTest) -> None:
        """Hold one kind of store to this law. Raises `ConformanceError`, with the operations that led there."""
        space, clock = new_space(self.name), store.clock()
        with Scene(store.open(space, clock), clock) as scene:
            if Need.SHARING in self.needs:
                self.body(scene, lambda: store.open(space, clock))
            else:
                self.body(scene)

    def __repr__(self) -> str:
        return f"<law {self.name}>"


def law(*needs: Need) -> Callable[[Callable[..., None]], Law]:
    """Make a law of a function of a scene; its docstring is the law's sentence.

    A law that needs `SHARING` gets a second argument: a function that opens one more store on the scene's state.
    """

    def made(body: Callable[..., None]) -> Law:
        return Law(body.__name__, (body.__doc__ or "").partition("\n")[0], frozenset(needs), body)

    return made
