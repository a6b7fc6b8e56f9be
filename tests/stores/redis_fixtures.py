"""A real server for the tests of a module, empty at the start of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.stores.redis_server import Server, serving


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """A server with nothing in it and nothing odd about it."""
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A connection to it."""
    with server.client() as client:
        yield client


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "embedded":
        return str(tmp_path / "store")
    server: Server = request.getfixturevalue("server")
    return server.url()
