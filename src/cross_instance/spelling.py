"""How names and times of ours are spelled for others: camelCase keys, RFC 3339 instants (UTC, milliseconds)."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def camel(name: str) -> str:
    """`total_max_llm` → `totalMaxLlm`."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def camel_keys(record: Any) -> Any:
    """A struct, a dataclass or plain data as plain data whose keys are in camelCase."""
    return _camel_keys(msgspec.to_builtins(record))


def _camel_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {camel(key): _camel_keys(item) for key, item in value.items()}
    return [_camel_keys(item) for item in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    """Text as one line, without anything that a terminal obeys."""
    return _CONTROL.sub(" ", text)


def time_text(wall: int) -> str:
    """An instant (wall µs) as text."""
    moment = datetime.fromtimestamp(wall // 1_000 / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wall_of(text: str) -> int:
    """The other way round (wall µs). Raises `ValueError` for what is no RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000) * 1_000


class Plain:
    """Base of frozen data that is told by the reference's names."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset()
    """The fields that the reference marks with `?`."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data with the reference's keys, ready for JSON."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return {camel(name): _plain(value) for name, value in values if value is not None or name not in self.OPTIONAL}


def _plain(value: Any) -> Any:
    if isinstance(value, Plain):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
