"""Real parts: the test provider, and a runtime on a store of its own."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from tests.clients.support import LIBRARIES, Scenario, side_in

from cross_instance.testing.provider import ProviderServer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One of the world's certificates: every client that is made reads them all, which takes 30 ms."""
    end = "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end)
    return str(file)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str) -> None:
    """No settings but a test's own, no proxies of the machine, no line per event of a connection in the log."""
    monkeypatch.setattr(certifi, "where", lambda: certificate)
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
