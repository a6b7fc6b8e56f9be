"""Ordered tables: the five calls that the rules need of their storage, and the layout of keys.

1. One ordered space of byte keys; a key's first byte names its table. Keys from 0x80 on are durable.
2. Integers in keys are eight bytes, big-endian, so that the order of bytes is the order of numbers.
3. Names in keys end with a zero byte, so that no name is a prefix of another; a name never contains one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tables(Protocol):
    """An ordered map of bytes to bytes, inside one transaction."""

    def get(self, key: bytes, /) -> bytes | None:
        """The value at `key`, or None."""

    def put(self, key: bytes, value: bytes, /) -> None:
        """Set the value at `key`."""

    def delete(self, key: bytes, /) -> bool:
        """Remove `key`; whether it was there."""

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        """The smallest key that starts with `prefix`, with its value."""

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """All keys that start with `prefix`, in order. The tables are not changed while it runs."""


DURABLE_FROM = 0x80
"""Keys whose first byte is at least this survive a boot and a power cut."""
