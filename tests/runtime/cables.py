"""A way to a store that can be cut, for each instance its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance import StoreUnavailable

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import AsyncStore, Permit, Store


class Cable:
    """A `Store` that is out of reach while it is `cut`; operations of the kinds in `lost` never arrive."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cut = False
        self.lost: set[type[Operation[Any]]] = set()
        self.tries = 0

    def check(self, op: Any = None) -> None:
        if self.cut or type(op) in self.lost:
            self.tries += 1
            raise StoreUnavailable("the cable is cut")

    def run(self, op: Any, /) -> Any:
        self.check(op)
        return self.store.run(op)

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        self.check()
        return self.store.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        self.store.forget(permit)

    def now(self) -> int:
        return self.store.now()

    def close(self) -> None:
        """It is its owner's."""


class AsyncCable:
    """The same cable for asyncio, to the same store for asyncio."""

    def __init__(self, cable: Cable, store: AsyncStore) -> None:
        self.cable = cable
        self.store = store

    async def run(self, op: Any, /) -> Any:
        self.cable.check(op)
        return await self.store.run(op)

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        self.cable.check()
        return await self.store.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        self.store.forget(permit)

    def now(self) -> int:
        return self.store.now()

    async def close(self) -> None:
        """It is its owner's."""
