"""Which store an address means: a folder of this machine, or a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cross_instance.errors import ConfigError
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.environment import PATIENCE

if TYPE_CHECKING:
    from cross_instance.config import Settings
    from cross_instance.stores.base import AsyncStore, Store


def open_store(address: str | Path, settings: Settings | None = None) -> Store:
    """Open the store at an address, or the folder of the settings where it is empty.

    Raises `ConfigError` for an address of another form, `StoreUnavailable` where the store cannot be used.
    """
    return EmbeddedStore(_folder(address, settings), patience=_patience(settings))


def open_async_store(address: str | Path, settings: Settings | None = None) -> AsyncStore:
    """The same for asyncio."""
    return AsyncEmbeddedStore(_folder(address, settings), patience=_patience(settings))


def _patience(settings: Settings | None) -> float:
    """Short enough for a process that finds the store occupied to go on at its share before others count it as gone."""
    return PATIENCE if settings is None else min(PATIENCE, settings.heartbeat_timeout / 4)


def _folder(address: str | Path, settings: Settings | None) -> Path:
    if not str(address) and settings is not None:
        return settings.runtime_dir
    scheme, found, _ = str(address).partition("://")
    if found:
        raise ConfigError(
            f"a store at a {scheme}:// address is not supported by this version; give a folder, or leave it unset",
            origin=None if settings is None else settings.origin_of("store"),
            key="store",
        )
    return Path(address).expanduser()
