"""What an image costs in tokens, by each provider's published rule.

1. The size is read from the first bytes of a PNG, JPEG, GIF or WebP file; nothing is decoded or fetched. An image
   behind a URL or a file id is taken for one of 1024 by 1024 pixels.
2. Rules change with models: these are those of current ones, and `Calibration` corrects the rest.
"""

from __future__ import annotations

import binascii
import struct

from cross_instance.providers.presets import ANTHROPIC, GEMINI

ASSUMED_SIZE = (1024, 1024)

_HEAD = 64 * 1024
"""Characters of base64 looked at: the size of a JPEG stands behind its metadata."""

_ANTHROPIC_PATCH = 28
_ANTHROPIC_MOST = 4_784
"""platform.claude.com/docs/en/build-with-claude/vision: patches of 28 by 28 pixels; larger images are scaled down."""
_GEMINI_TOKENS = 1_120
"""ai.google.dev/gemini-api/docs/media-resolution: the default of Gemini 3 for an image, whatever its size."""
_OPENAI_PATCH = 32
_OPENAI_LOW = 85
"""developers.openai.com/api/docs/guides/images-vision: patches of 32 by 32 pixels, times 1.2; 85 for `detail: low`."""


def image_tokens(provider: str, base64: str | None, detail: str = "") -> int:
    """The tokens of one image, given as base64 text (None: it is elsewhere). Rules for others are OpenAI's."""
    width, height = (base64 and dimensions(base64)) or ASSUMED_SIZE
    if provider == GEMINI:
        return _GEMINI_TOKENS
    if provider == ANTHROPIC:
        return min(_ANTHROPIC_MOST, _patches(width, height, _ANTHROPIC_PATCH))
    if detail == "low":
        return _OPENAI_LOW
    return _patches(width, height, _OPENAI_PATCH) * 6 // 5


def dimensions(base64: str) -> tuple[int, int] | None:
    """Width and height in pixels; None where the format is not known or the file is not one."""
    try:
        head = binascii.a2b_base64(base64[:_HEAD])
        size = _size(head)
    except (ValueError, struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _patches(width: int, height: int, side: int) -> int:
    return -(-width // side) * -(-height // side)


def _size(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _pair(">II", head, 16)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _pair("<HH", head, 6)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header (SOF0 to SOF15, which leave out DHT, JPG and DAC)."""
    position = 2
    while head[position] == 0xFF:
        marker = head[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _pair(">HH", head, position + 5)
            return width, height
        position += 2 + struct.unpack_from(">H", head, position + 2)[0]
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = _pair("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
    return None


def _pair(form: str, head: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, offset)
    return int(first), int(second)
