"""Where the instances of these tests meet: a timeline, or a real server."""

from __future__ import annotations

import pytest
from tests.runtime.doubles import Timeline
from tests.stores.redis_fixtures import server, shared_server, store

__all__ = ["server", "shared_server", "store", "timeline"]


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()
