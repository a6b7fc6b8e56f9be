"""What the commands that only look have in common: they see the store without joining it.

1. A store is opened only where one is in use since the machine was started; nothing is made to look at it.
2. A folder that cannot be used as it is (another's, open to others) is refused, not mended.
3. Opening a store sets a damaged coordination file aside, as any process that opens it would; that, and removing what
   earlier boots left, is all that a look may change.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.protocol import Wait, drive
from cross_instance.providers.presets import KNOWN
from cross_instance.rules.operations import Snapshot, World
from cross_instance.status import place_of
from cross_instance.stores.folder import GATE, WAY_OUT, coordination_path
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.config import Settings
    from cross_instance.rules.operations import Notice, Operation
    from cross_instance.stores.base import Store
    from cross_instance.tasks.flows import Flow

R = TypeVar("R")


def look(settings: Settings) -> World | None:
    """The store's state now; None where nothing is in use. Raises `StoreUnavailable`, `ConfigError`."""
    address = settings.store or str(settings.runtime_dir)
    if "://" not in address and is_unused(Path(address)):
        return None
    store = open_store(address, settings)
    try:
        return store.run(Snapshot())
    finally:
        store.close()


def perform(store: Store, flow: Flow[R]) -> R:
    """Perform a flow of operations, none of which waits."""

    def step(step: Operation[Any] | Wait) -> object:
        assert not isinstance(step, Wait)
        return store.run(step)

    return drive(flow, step)


def is_unused(folder: Path) -> bool:
    """Whether no store has been opened there since the machine was started.

    Raises `StoreUnavailable` for a folder that cannot be looked into, or that a user of it would have to close first.
    """
    return not {GATE, coordination_path(folder).name} <= _names_in(folder)


def was_never_used(folder: Path) -> bool:
    """Whether no store has ever been opened there. Raises `StoreUnavailable` as `is_unused` does."""
    return GATE not in _names_in(folder)


def _names_in(folder: Path) -> set[str]:
    try:
        found = folder.stat()
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()
    except NotADirectoryError as error:
        raise StoreUnavailable(f"{folder} is not a folder; {WAY_OUT}") from error
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot be read: {error.strerror}; {WAY_OUT}") from error
    if found.st_uid != os.geteuid():
        raise StoreUnavailable(f"{folder} belongs to the user with id {found.st_uid}; {WAY_OUT}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise StoreUnavailable(f"{folder} is open to other users (mode {mode:o}); to look into it: chmod 700 {folder}")
    return names


def known_providers(settings: Settings, world: World | None) -> list[str]:
    """The providers that have a preset, are configured, or are in use."""
    used = {place_of(node.node).provider for node in world.nodes} if world is not None else set()
    return [*KNOWN, *sorted({*settings.providers, *used} - {*KNOWN, ""})]


def notices_of(world: World) -> tuple[Notice, ...]:
    """What the store, and each account in it, has to say."""
    return (*world.notices, *(notice for node in world.nodes for notice in node.notices))


def as_json(data: Any) -> str:
    """JSON for people and programs: indented, all characters as they are."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Lines in columns as wide as they need to be; those whose numbers are in `right` are aligned there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines
