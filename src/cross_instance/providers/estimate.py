"""How many tokens a request's content has, before it is sent.

1. Text costs one token per so many bytes of UTF-8. Names of fields count as text does: they weigh about what the
   provider's own framing of messages and tools weighs. Numbers count as one token each: arrays of token ids are exact.
2. Data in base64 is never counted as text: images by their size, sound, video and documents by their bytes.
   Signatures and encrypted reasoning cost nothing here.
3. The walk is iterative and touches each value once.
An estimate is corrected per model by `Calibration`; here it only has to be of the right order.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from cross_instance.providers.images import image_tokens
from cross_instance.providers.presets import ANTHROPIC
from cross_instance.providers.reading import dig, text_at

if TYPE_CHECKING:
    from collections.abc import Mapping

_BYTES_PER_TOKEN = {ANTHROPIC: 3.5}
"""platform.claude.com/docs/en/about-claude/glossary: a token is about 3.5 English characters."""
_USUAL_BYTES_PER_TOKEN = 4.0
"""help.openai.com ("What are tokens") and ai.google.dev/gemini-api/docs/tokens: about 4 characters. In bytes, a
Cyrillic letter comes to half a token and a Chinese one to three quarters."""

_BYTES_PER_MEDIA_TOKEN = 500
"""Gemini: 32 tokens per second of sound (about 16 kB as MP3), 263 per second of video (about 130 kB)."""
_BYTES_PER_PAGE = 100_000
_TOKENS_PER_PAGE = 2_000
"""platform.claude.com/docs/en/build-with-claude/pdf-support: 1,500 to 3,000 tokens a page; its size is assumed."""

_CONTENT = (
    "messages",
    "system",
    "tools",
    "functions",
    "input",
    "instructions",
    "prompt",
    "response_format",
    "text",
    "output_config",
    "contents",
    "content",
    "requests",
    "systemInstruction",
    "system_instruction",
    "generationConfig",
)
"""The fields of a request that the model reads, tools and schemas included."""
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+-]+=[^;,\s]{1,100}){0,4};base64,[A-Za-z0-9+/_=-]", re.ASCII)
"""RFC 2397, with a type; other text that begins with "data:", as events and YAML do, is text."""
_OPAQUE = frozenset({"signature", "thoughtSignature", "thought_signature", "encrypted_content"})
_IMAGE_PARTS = frozenset({"image_url", "input_image"})
_REMOTE_SOURCES = frozenset({"url", "file"})


def estimate_tokens(provider: str, request: Mapping[str, object]) -> int:
    """The tokens of a decoded request body, as the provider would roughly count them."""
    text = tokens = 0
    pending = [request[name] for name in _CONTENT if name in request]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if _DATA_URL.match(value):
                tokens += _data_url_tokens(provider, value, "")
            else:
                text += _size(value)
        elif isinstance(value, dict):
            media = _media_tokens(provider, value)
            if media is None:
                text += sum(_size(name) for name in value)
                pending += [item for name, item in value.items() if name not in _OPAQUE]
            else:
                tokens += media
        elif isinstance(value, list):
            pending += value
        elif value is not None and not isinstance(value, bool):
            tokens += 1
    return tokens + math.ceil(text / _BYTES_PER_TOKEN.get(provider, _USUAL_BYTES_PER_TOKEN))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _media_tokens(provider: str, part: dict[str, object]) -> int | None:
    """The tokens of a part that is an image, sound, video or document; None where it is none of these."""
    kind = text_at(part, "type")
    if kind in _IMAGE_PARTS:
        url = text_at(part, "image_url") or text_at(part, "image_url", "url")
        detail = text_at(part, "detail") or text_at(part, "image_url", "detail")
        return _data_url_tokens(provider, url, detail)
    if kind in ("image", "document") and text_at(part, "source", "type") in _REMOTE_SOURCES:
        return _blob_tokens(provider, "image/" if kind == "image" else "", None)
    if kind == "redacted_thinking":
        return 0
    data = dig(part, "data")
    mime = text_at(part, "media_type") or text_at(part, "mimeType") or text_at(part, "mime_type")
    if isinstance(data, str) and kind != "text":
        mime = mime or (text_at(part, "format") and "audio/")
        return _blob_tokens(provider, mime, data) if mime else None
    if mime and ("fileUri" in part or "file_uri" in part):
        return _blob_tokens(provider, mime, None)
    return None


def _data_url_tokens(provider: str, url: str, detail: str) -> int:
    """The tokens of what a URL holds or, a remote one, of the image it stands for."""
    if not url.startswith("data:"):
        return image_tokens(provider, None, detail)
    head, _, data = url.partition(",")
    return _blob_tokens(provider, head.removeprefix("data:"), data, detail)


def _blob_tokens(provider: str, mime: str, base64: str | None, detail: str = "") -> int:
    if mime.startswith("image/"):
        return image_tokens(provider, base64, detail)
    size = len(base64 or "") * 3 // 4
    if mime.startswith("text/"):
        return math.ceil(size / _BYTES_PER_TOKEN.get(provider, _USUAL_BYTES_PER_TOKEN))
    if mime.startswith(("audio/", "video/")):
        return size // _BYTES_PER_MEDIA_TOKEN
    return (size // _BYTES_PER_PAGE + 1) * _TOKENS_PER_PAGE
