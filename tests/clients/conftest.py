"""Real parts: the test provider, and a runtime on a store of its own."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.support import LIBRARIES, Scenario, side_in

from cross_instance.testing.provider import ProviderServer


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own, no proxies of the machine, no line per event of a connection in the log."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for library in LIBRARIES:
        logging.getLogger(library.replace("httpx", "httpcore")).setLevel(logging.INFO)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=("sync", "async"))
def play(request: pytest.FixtureRequest, library: str, tmp_path: Path) -> Callable[..., None]:
    """Run a scenario with a fresh runtime; afterwards no permit may be held."""

    def play(scenario: Scenario, **settings: Any) -> None:
        async def scene() -> None:
            async with side_in(tmp_path, library, is_async=request.param == "async", **settings) as side:
                await scenario(side)

        asyncio.run(scene())

    return play


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server
