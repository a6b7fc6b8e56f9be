"""Payloads: what goes into a task and comes out of it, as JSON.

1. What is read is what was written: None, booleans, numbers, strings, lists, and dictionaries with strings as keys.
   Tuples are taken for lists. Anything else is refused before it is stored, with its place.
2. Arguments are kept as `[positional, by name]`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.errors import PayloadError
from cross_instance.rules.task_checks import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTED = "None, booleans, numbers, strings, lists, and dictionaries with strings as keys"
BIGGEST = 1 << 64
"""Whole numbers are kept exactly from -2^63 to below this."""

_decoder = msgspec.json.Decoder()


def encode(value: Any, what: str, most: int) -> bytes:
    """A value as JSON of at most `most` bytes; `what` names it in messages. Raises `PayloadError`."""
    _guarded(value, what)
    return _written(value, what, most)


def decode(data: bytes) -> Any:
    """What was encoded; None for nothing. Raises `PayloadError` for what is no JSON."""
    try:
        return _decoder.decode(data) if data else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError(f"the payload cannot be read: {error}") from error


def encode_call(args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
    """The arguments of a call. Raises `PayloadError`."""
    for index, value in enumerate(args):
        _guarded(value, f"argument {index + 1}")
    for name, value in kwargs.items():
        _guarded(value, f"argument {name!r}")
    return _written([list(args), kwargs], "all arguments together", MOST_BYTES)


def decode_call(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call. Raises `PayloadError`."""
    match decode(data):
        case None:
            return [], {}
        case [list() as args, dict() as kwargs]:
            return args, kwargs
        case _:
            raise PayloadError("the payload holds no arguments of a call")


def _guarded(value: Any, what: str) -> None:
    try:
        _check(value, what)
    except RecursionError:
        raise PayloadError(f"{what} contains itself, or is nested too deeply") from None


def _written(value: Any, what: str, most: int) -> bytes:
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise PayloadError(f"{what}: a string in it is no valid Unicode (it has a lone surrogate)") from None
    if len(data) > most:
        raise PayloadError(f"{what}: {len(data):,} bytes as JSON; at most {most:,} are accepted, so pass a reference")
    return data


def _check(value: Any, place: str) -> None:
    kind = type(value)
    if kind is list or kind is tuple:
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise PayloadError(f"{place} has the key {key!r}; keys are strings")
            _check(item, f"{place}[{key!r}]")
    elif kind is int or kind is float:
        _check_number(value, place)
    elif not (kind is str or kind is bool or value is None):
        raise PayloadError(f"{place} is of type {kind.__module__}.{kind.__qualname__}; accepted are {ACCEPTED}")


def _check_number(value: float, place: str) -> None:
    if type(value) is float and not math.isfinite(value):
        raise PayloadError(f"{place} is {value}, which JSON does not have")
    if type(value) is int and not -BIGGEST // 2 <= value < BIGGEST:
        raise PayloadError(f"{place} is a number beyond 64 bits; pass it as a string")
