"""A running provider for each test that asks for one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cross_instance.testing.provider import ProviderConfig, ProviderServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def serve() -> Iterator[Callable[..., ProviderServer]]:
    """`serve(limits=..., ...)` starts a provider with that configuration."""
    with ExitStack() as stack:

        def start(**config: Any) -> ProviderServer:
            return stack.enter_context(ProviderServer(ProviderConfig(**config)))

        yield start
