"""Which store an address means: a folder of this machine, or a URL."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cross_instance.errors import ConfigError
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.environment import PATIENCE

if TYPE_CHECKING:
    from cross_instance.config import Settings
    from cross_instance.stores.base import AsyncStore, Store

REDIS = frozenset(
    {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"},
)
"""The schemes of Redis and Valkey servers (`stores.redis.address`)."""
EXTRA = "pip install cross-instance-runtime[redis]"


def open_store(address: str | Path, settings: Settings | None = None) -> Store:
    """Open the store at an address, or the folder of the settings where it is empty.

    Raises `ConfigError` for an address of another form, or whose server refuses what it says; `StoreUnavailable` where
    the store cannot be used.
    """
    if not _is_url(address):
        return EmbeddedStore(_folder(address, settings), patience=_patience(settings))
    store: Store = _open_url(str(address), settings, "RedisStore")
    return store


def open_async_store(address: str | Path, settings: Settings | None = None) -> AsyncStore:
    """The same for asyncio; a server's refusal is told by the first operation."""
    if not _is_url(address):
        return AsyncEmbeddedStore(_folder(address, settings), patience=_patience(settings))
    store: AsyncStore = _open_url(str(address), settings, "AsyncRedisStore")
    return store


def _is_url(address: str | Path) -> bool:
    return "://" in str(address)


def _patience(settings: Settings | None) -> float:
    """Short enough for a process that cannot have the store to go on at its share before others count it as gone."""
    return PATIENCE if settings is None else min(PATIENCE, settings.heartbeat_timeout / 4)


def _folder(address: str | Path, settings: Settings | None) -> Path:
    if not str(address) and settings is not None:
        return settings.runtime_dir
    return Path(address).expanduser()


def _open_url(url: str, settings: Settings | None, kind: str) -> Any:
    """Open a store of a kind that is loaded only where it is used: it needs an extra."""
    origin = settings.origin_of("store") if settings is not None and settings.store == url else None
    scheme = url.partition("://")[0]
    if scheme not in REDIS:
        known = ", ".join(f"{one}://" for one in sorted(REDIS))
        raise ConfigError(
            f"a store at a {scheme}:// address is not supported; give a folder, or one of {known}",
            origin=origin,
            key="store",
        )
    try:
        module = import_module("cross_instance.stores.redis.store")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ConfigError(
            f"a store at a {scheme}:// address needs the package redis: {EXTRA}", origin=origin, key="store"
        ) from error
    try:
        store = getattr(module, kind)(url)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("`store`: "), origin=origin, key="store") from error
    if settings is not None:
        store.limit_patience(_patience(settings))
    return store
