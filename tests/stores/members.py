"""Instances of a store, without the runtime that would keep them alive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cross_instance.rules.operations import Join, Joined

if TYPE_CHECKING:
    from cross_instance.stores.base import Store


def join(store: Store, name: str = "one") -> int:
    joined = store.run(Join(name, "nonce", os.getpid(), "machine", "host"))
    assert isinstance(joined, Joined)
    return joined.incarnation
