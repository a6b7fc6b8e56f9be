"""An embedded store in a folder of its own, and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.redis_fixtures import client, server, shared_server

from cross_instance.stores.embedded import EmbeddedStore

__all__ = ["client", "folder", "server", "shared_server", "store"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(folder)
    yield store
    store.close()
