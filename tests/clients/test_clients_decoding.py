import gzip
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from random import Random

import pytest

from cross_instance.clients.decoding import Decoder, UndecodableError


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
    "": bytes,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


def decoded(coding: str, data: bytes, size: int) -> bytes:
    decoder = Decoder(coding)
    return b"".join(decoder.decode(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 97, 10_000])
@pytest.mark.parametrize("data", [b"", b"x", b"text" * 999, Random(7).randbytes(5000)], ids=len)
@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_encoded_comes_out_however_it_is_cut(coding: str, data: bytes, size: int) -> None:
    assert decoded(coding, CODINGS[coding](data), size) == data


def test_each_piece_comes_out_as_soon_as_it_can() -> None:
    deflate = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    decoder = Decoder("gzip")
    for piece in (b"data: one\n\n", b"data: two\n\n"):
        assert decoder.decode(deflate.compress(piece) + deflate.flush(zlib.Z_SYNC_FLUSH)) == piece


@pytest.mark.parametrize(
    ("coding", "package"),
    [("br", "brotli"), ("br", "brotlicffi"), ("zstd", "zstandard"), ("zstd", "backports.zstd")],
)
def test_optional_codings(coding: str, package: str) -> None:
    if find_spec(package.partition(".")[0]) is None:
        pytest.skip(f"{package} is not installed")
    assert decoded(coding, import_module(package).compress(b"text" * 99), 7) == b"text" * 99


@pytest.mark.parametrize(("coding", "data"), [("gzip", b"not gzip at all"), ("rot13", b"grkg"), ("gzip, rot13", b"")])
def test_what_cannot_be_decoded_says_so(coding: str, data: bytes) -> None:
    with pytest.raises(UndecodableError):
        Decoder(coding).decode(data)
