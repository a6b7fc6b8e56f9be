"""A real server, for the tests of tasks that need one."""

from __future__ import annotations

from tests.stores.redis_fixtures import client, server, shared_server

__all__ = ["client", "server", "shared_server"]
