"""Without the package redis: everything but a store at such an address works, and that says what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cross_instance.config import load_settings
from cross_instance.errors import ConfigError
from cross_instance.stores.urls import open_store

PROGRAM = """\
import sys
sys.modules["redis"] = None
from cross_instance import AsyncRuntime, ConfigError, Runtime
from cross_instance.stores.urls import open_async_store, open_store
Runtime(store=sys.argv[1]).close()
for opened in (open_store, open_async_store):
    try:
        opened("redis://:secret@localhost")
    except ConfigError as error:
        print(error)
"""


def test_the_extra_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "store")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}).stdout
    lines = printed.splitlines()
    assert len(lines) == 2
    assert all("pip install cross-instance-runtime[redis]" in line and "secret" not in line for line in lines)


def test_the_origin_of_a_wrong_address_is_told(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={"PI_STORE": "redis://h?colour=red"}, home=tmp_path)
    assert settings.store is not None
    with pytest.raises(ConfigError, match=r"^PI_STORE `store`: redis://h\?colour=\*\*\*: the option colour") as caught:
        open_store(settings.store, settings)
    assert caught.value.origin == "PI_STORE"
