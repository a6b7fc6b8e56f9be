"""Parts for testing: a clock that is moved by hand, the model store, the conformance suite, a provider."""

from cross_instance.stores.memory import DictTables
from cross_instance.testing.clock import FakeClock
from cross_instance.testing.conformance import (
    ASYNC_LAWS,
    LAWS,
    AsyncLaw,
    AsyncStoreUnderTest,
    ConformanceError,
    Law,
    StoreUnderTest,
    check_async_store,
    check_store,
    random_operations,
)
from cross_instance.testing.model import ModelStore

__all__ = [
    "ASYNC_LAWS",
    "LAWS",
    "AsyncLaw",
    "AsyncStoreUnderTest",
    "ConformanceError",
    "DictTables",
    "FakeClock",
    "Law",
    "ModelStore",
    "StoreUnderTest",
    "check_async_store",
    "check_store",
    "random_operations",
]
