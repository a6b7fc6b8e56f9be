"""Parts for testing: a clock that is moved by hand, the model store, the conformance suite, a provider."""

from cross_instance.testing.clock import FakeClock
from cross_instance.testing.model import DictTables, ModelStore

__all__ = ["DictTables", "FakeClock", "ModelStore"]
