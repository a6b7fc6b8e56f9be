"""Content-Encoding, undone on a copy of the bytes that pass.

1. Bytes go in as they arrive; what can be decoded so far comes out.
2. gzip and deflate are always known; br and zstd where a package is installed that the HTTP libraries use too. They
   advertise to the server only what they can decode themselves, so a reply in another coding is rare.
3. An unknown coding, or bytes that are not what the header says, raise `UndecodableError`.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Decode = Callable[[bytes], bytes]

_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_RAW_DEFLATE = -zlib.MAX_WBITS


class UndecodableError(Exception):
    """These bytes cannot be read; the message says why."""


class Decoder:
    """Undoes the codings of one response; `content_encoding` lists them in the order in which they were applied."""

    def __init__(self, content_encoding: str) -> None:
        codings = [coding.strip().lower() for coding in content_encoding.split(",")]
        self._chain = [_decoder_of(coding) for coding in reversed(codings) if coding not in {"", "identity"}]

    def decode(self, data: bytes) -> bytes:
        """What these bytes add to the decoded body; raises `UndecodableError`."""
        for decode in self._chain:
            try:
                data = decode(data)
            except Exception as error:
                raise UndecodableError(str(error)) from error
        return data


def _decoder_of(coding: str) -> Decode:
    make = _MAKERS.get(coding)
    if make is None:
        raise UndecodableError(f"unknown content coding {coding!r}")
    return make()


def _gzip() -> Decode:
    return zlib.decompressobj(_ZLIB_OR_GZIP).decompress


def _deflate() -> Decode:
    """`deflate` means zlib, but some servers leave zlib's header out: its two bytes tell (RFC 1950, 2.2)."""
    head = b""
    inflate: Decode | None = None

    def decode(data: bytes) -> bytes:
        nonlocal head, inflate
        if inflate is not None:
            return inflate(data)
        head += data
        if len(head) < 2:
            return b""
        is_zlib = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:2]) % 31 == 0
        inflate = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else _RAW_DEFLATE).decompress
        return inflate(head)

    return decode


def _br() -> Decode:
    decompressor = _first_installed("brotli", "brotlicffi").Decompressor()
    decode: Decode = getattr(decompressor, "decompress", None) or decompressor.process
    return decode


def _zstd() -> Decode:
    decompressor = _first_installed("compression.zstd", "backports.zstd", "zstandard").ZstdDecompressor()
    incremental = decompressor.decompressobj() if hasattr(decompressor, "decompressobj") else decompressor
    decode: Decode = incremental.decompress
    return decode


def _first_installed(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise UndecodableError(f"none of these is installed: {', '.join(names)}")


_MAKERS: dict[str, Callable[[], Decode]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _br,
    "zstd": _zstd,
}
