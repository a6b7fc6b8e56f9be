"""What the commands that only look have in common: they see the store without joining it, and change nothing there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.providers.presets import KNOWN
from cross_instance.rules.operations import Snapshot, World
from cross_instance.status import place_of
from cross_instance.stores.folder import GATE
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.config import Settings


def look(settings: Settings) -> World | None:
    """The store's state now; None where its folder has not been used yet. Raises `StoreUnavailable`, `ConfigError`."""
    address = settings.store or str(settings.runtime_dir)
    if "://" not in address and is_unused(Path(address)):
        return None
    store = open_store(address, settings)
    try:
        return store.run(Snapshot())
    finally:
        store.close()


def is_unused(folder: Path) -> bool:
    """Whether no store has been opened there yet; one that cannot be looked into is not called unused."""
    try:
        return folder / GATE not in folder.iterdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def known_providers(settings: Settings, world: World | None) -> list[str]:
    """The providers that have a preset, are configured, or are in use."""
    used = {place_of(node.node).provider for node in world.nodes} if world is not None else set()
    return [*KNOWN, *sorted({*settings.providers, *used} - {*KNOWN, ""})]


def as_json(data: Any) -> str:
    """JSON for people and programs: indented, all characters as they are."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def camel(record: Any) -> Any:
    """A struct or dataclass as plain data with camelCase keys."""
    return _camel(msgspec.to_builtins(record))


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda match: match[1].upper(), key): _camel(item) for key, item in value.items()}
    return [_camel(item) for item in value] if isinstance(value, list | tuple) else value


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
