"""Images: sizes read from real file heads, tokens by each provider's rule."""

import struct
import zlib
from base64 import b64encode

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers.images import dimensions, image_tokens


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00;"


def jpeg(width: int, height: int, frame: int = 0xC0, before: bytes = b"") -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 5_000) + b"E" * 5_000
    tables = b"\xff\xc4" + struct.pack(">H", 2 + 10) + b"H" * 10
    start = b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 8, 8, height, width, 1)
    return b"\xff\xd8" + before + exif + tables + start + b"\x01\x11\x00\xff\xd9"


def webp(kind: bytes, payload: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(payload)) + b"WEBP" + kind + struct.pack("<I", len(payload)) + payload


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + b"\x00" * 8)


def webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", bits) + b"\x00" * 8)


def webp_extended(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\x00\x00\x00\x00" + size)


def base64(data: bytes) -> str:
    return b64encode(data).decode()


@pytest.mark.parametrize("make", [png, gif, jpeg, webp_lossy, webp_lossless, webp_extended])
@given(width=st.integers(1, 16_383), height=st.integers(1, 16_383))
def test_sizes_are_read(make: object, width: int, height: int) -> None:
    assert callable(make)
    assert dimensions(base64(make(width, height))) == (width, height)


def test_a_progressive_jpeg_is_read() -> None:
    assert dimensions(base64(jpeg(640, 480, frame=0xC2))) == (640, 480)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF0000WEBPVP8 ", png(0, 10), jpeg(1, 1)[:4_000]]
)
def test_what_has_no_size_has_none(data: bytes) -> None:
    assert dimensions(base64(data)) is None


def is_size_or_none(found: tuple[int, int] | None) -> bool:
    return found is None or min(found) > 0


@given(st.text() | st.binary().map(base64))
def test_nothing_makes_it_raise(text: str) -> None:
    assert is_size_or_none(dimensions(text))


@given(
    st.sampled_from([png(9, 9), gif(9, 9), jpeg(9, 9), webp_lossy(9, 9), webp_extended(9, 9)]), st.binary(max_size=64)
)
def test_files_cut_or_spoiled_do_not_make_it_raise(data: bytes, noise: bytes) -> None:
    for cut in range(0, len(data), max(1, len(data) // 20)):
        assert is_size_or_none(dimensions(base64(data[:cut] + noise)))


@pytest.mark.parametrize(
    ("provider", "size", "measured"),
    [
        ("openai", (256, 256), 77),
        ("openai", (512, 512), 308),
        ("openai", (1024, 1024), 1_229),
        ("openai", (1920, 1080), 2_448),
        ("openai", (4032, 3024), 14_364),
        ("anthropic", (512, 512), 438 - 77),
        ("anthropic", (1024, 1024), 1_446 - 77),
        ("anthropic", (1920, 1080), 2_768 - 77),
        ("gemini", (256, 256), 1_090),
        ("gemini", (4032, 3024), 1_065),
    ],
)
def test_the_rules_agree_with_what_was_measured(provider: str, size: tuple[int, int], measured: int) -> None:
    """Figures of huggingface.co/datasets/JOHNISKING/image-token-cost; Anthropic's include 77 tokens of prompt."""
    assert image_tokens(provider, base64(png(*size))) == pytest.approx(measured, rel=0.06)


def test_an_image_elsewhere_is_assumed_to_be_of_usual_size() -> None:
    known = base64(png(1024, 1024))
    for provider in ("openai", "anthropic", "gemini"):
        assert image_tokens(provider, None) == image_tokens(provider, known)


def test_no_image_costs_more_than_anthropic_scales_it_down_to() -> None:
    assert image_tokens("anthropic", base64(png(8_000, 8_000))) == 4_784
