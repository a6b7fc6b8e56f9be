"""Ordered tables: the five calls that the rules need of their storage, and the layout of keys.

1. One ordered space of byte keys; a key's first byte names its table. Keys from 0x80 on are durable.
2. Integers in keys are eight bytes, big-endian, so that the order of bytes is the order of numbers.
3. Names in keys end with a zero byte, so that no name is a prefix of another; a name never contains one.
"""

from __future__ import annotations

import struct
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tables(Protocol):
    """An ordered map of bytes to bytes, inside one transaction."""

    def get(self, key: bytes, /) -> bytes | None:
        """The value at `key`, or None."""

    def put(self, key: bytes, value: bytes, /) -> object:
        """Set the value at `key`."""

    def delete(self, key: bytes, /) -> object:
        """Remove `key`, if it is there."""

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        """The smallest key that starts with `prefix`, with its value."""

    def after(self, prefix: bytes, key: bytes, /) -> tuple[bytes, bytes] | None:
        """The smallest key larger than `key` that starts with `prefix`, with its value."""

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """All keys that start with `prefix`, in order. The tables are not changed while it runs."""


DURABLE_FROM = 0x80
"""Keys whose first byte is at least this survive a boot and a power cut."""

MAX_NAME = 200
"""The longest name of an account, pattern, instance or resource in UTF-8 bytes; LMDB's keys end at 511."""

INSTANCE, INSTANCE_ID, BEAT = b"i", b"j", b"b"
NODE, PUBLISHED, TOLD, FLOW, TAG, LEARNED = b"n", b"c", b"d", b"f", b"t", b"z"
SPEC = b"C"
PERMIT, FIFO, HEAD, EXPIRY = b"p", b"q", b"h", b"x"
LOCK, CLAIM, LOST = b"k", b"m", b"l"
CLAIMER, OWNED, TAKEN, RETURNED, IDLE = b"v", b"o", b"u", b"r", b"w"
EPOCH, WATCH, STEALS = b"e", b"a", b"s"
LAPSE, FENCES = b"y", b"g"
INCARNATIONS = b"\x81"
"""The durable counter of incarnations; a key of its own."""
TASK, PAYLOAD, RESULT, BY_PHASE, READY = b"\x82", b"\x83", b"\x84", b"\x85", b"\x86"
LANE, QUEUE, DELAYED, TASK_KEY, EXPIRES = b"\x87", b"\x88", b"\x89", b"\x8a", b"\x8b"
DURATION, TOTALS, EPOCHS = b"\x8c", b"\x8d", b"\x8e"
KEPT = b"\x8f"
"""What was learned, as far as it is to outlive a boot."""

_one = struct.Struct(">Q").pack
_two = struct.Struct(">QQ").pack
unpack_one = struct.Struct(">Q").unpack
_fifo_tail = struct.Struct(">QBQQ")
_head_tail = struct.Struct(">BQQQQ")
_expiry = struct.Struct(">QQQ")


@lru_cache(maxsize=4096)
def named(table: bytes, name: str) -> bytes:
    """The key of a name, which is also the prefix of everything below it."""
    return table + name.encode() + b"\0"


def numbered(table: bytes, number: int) -> bytes:
    """The key of a number, which is also the prefix of everything below it."""
    return table + _one(number)


def numbers(*of: int) -> bytes:
    """Numbers as they stand in keys."""
    return b"".join(map(_one, of))


permit_key = partial(struct.Struct(">cQQ").pack, PERMIT)
"""The key of a permit or waiter (incarnation, seq); an instance's stand together, in the order of their fences."""


def fifo_prefix(group: str, incarnation: int, rank: int) -> bytes:
    """One instance's waiters of one class in one group."""
    return named(FIFO, group) + _one(incarnation) + bytes((rank,))


def fifo_key(group: str, incarnation: int, rank: int, arrival: int, seq: int) -> bytes:
    """A waiter's place: first come, first served within an instance's class."""
    return named(FIFO, group) + _fifo_tail.pack(incarnation, rank, arrival, seq)


def fifo_place(key: bytes) -> tuple[int, int]:
    """(arrival, seq) of a place."""
    place: tuple[int, int, int, int] = _fifo_tail.unpack(key[-_fifo_tail.size :])
    return place[2], place[3]


def head_key(group: str, rank: int, tag: int, arrival: int, incarnation: int, seq: int) -> bytes:
    """The first waiter of an instance's class in the order of the group."""
    return named(HEAD, group) + _head_tail.pack(rank, tag, arrival, incarnation, seq)


def head_place(key: bytes) -> tuple[int, int, int, int, int]:
    """(rank, tag, arrival, incarnation, seq) of a head."""
    place: tuple[int, int, int, int, int] = _head_tail.unpack(key[-_head_tail.size :])
    return place


def expiry_key(at: int, incarnation: int, seq: int) -> bytes:
    """Something that ends at an instant: an offer not taken, a ghost."""
    return EXPIRY + _expiry.pack(at, incarnation, seq)


def expiry_place(key: bytes) -> tuple[int, int, int]:
    """(at, incarnation, seq) of what ends."""
    place: tuple[int, int, int] = _expiry.unpack(key[1:])
    return place


def beat_key(deadline: int, incarnation: int) -> bytes:
    """When an instance counts as silent."""
    return BEAT + _two(deadline, incarnation)
