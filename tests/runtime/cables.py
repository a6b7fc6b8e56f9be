"""A way to a store that can be cut, for each instance its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cross_instance import StoreUnavailable

if TYPE_CHECKING:
    from cross_instance.rules.operations import Wake
    from cross_instance.stores.base import Permit, Store


class Cable:
    """A `Store` that is out of reach while it is `cut`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cut = False
        self.tries = 0

    def run(self, op: Any, /) -> Any:
        if self.cut:
            self.tries += 1
            raise StoreUnavailable("the cable is cut")
        return self.store.run(op)

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        if self.cut:
            raise StoreUnavailable("the cable is cut")
        return self.store.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        self.store.forget(permit)

    def now(self) -> int:
        return self.store.now()

    def close(self) -> None:
        """It is its owner's."""


class AsyncCable:
    """The same for asyncio."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable

    async def run(self, op: Any, /) -> Any:
        await asyncio.sleep(0)
        return self.cable.run(op)

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        await asyncio.sleep(0)
        return self.cable.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        self.cable.forget(permit)

    def now(self) -> int:
        return self.cable.now()

    async def close(self) -> None:
        """It is its owner's."""
