"""Finding the tokens used in a response, while it passes.

1. Only usage objects are parsed. Inside a JSON string a quote is always escaped, so the bytes `"usage":` can only be
   a key: it is found the same way in a JSON body, in events of a stream, and in Gemini's array of chunks, and
   comments, keep-alive lines and text are passed over.
2. Memory is bounded: an unfinished usage object or key is held between two chunks, and the first 64 KiB for error
   bodies; nothing else, however long the response.
3. Counts are cumulative in every provider's stream: the last one stated wins, count by count (Anthropic states the
   input in `message_start` and the output in `message_delta`).
"""

from __future__ import annotations

import re

import msgspec

from cross_instance.providers.reading import count_of, decode_json, dig

BODY_START = 64 * 1024
"""Bytes kept of the beginning of a response; error bodies are far smaller."""
_LARGEST_OBJECT = 16 * 1024
"""Bytes of the largest usage object waited for; real ones stay below 2 KiB."""
_LONGEST_KEY = 64
"""Bytes that a key, cut by the end of a chunk, can have before its brace (indentation included)."""

_KEY = re.compile(rb'"usage(?:Metadata|_metadata)?"\s*:\s*(?=\{)')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]|"', re.DOTALL)


class Usage(msgspec.Struct, frozen=True):
    """The tokens of one call. `input_tokens`: of the prompt, neither read from nor written to the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input_tokens + self.cache_creation_tokens + self.cache_read_tokens


class UsageReader:
    """Reads a response body in chunks of any size, already decompressed, and keeps what it says of usage."""

    def __init__(self) -> None:
        self._start = bytearray()
        self._held = b""
        self._counts: dict[str, int] = {}

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the body."""
        if len(self._start) < BODY_START:
            self._start += chunk[: BODY_START - len(self._start)]
        data = self._held + chunk
        position = 0
        while (key := _KEY.search(data, position)) is not None:
            begin = key.end()
            end = _end_of_object(data, begin)
            if end is not None:
                self._counts |= _counts(decode_json(data[begin:end]))
            elif len(data) - begin <= _LARGEST_OBJECT:
                self._held = data[key.start() :]
                return
            position = end or begin + _LARGEST_OBJECT
        self._held = data[position:][-_LONGEST_KEY:]

    def usage(self) -> Usage | None:
        """The usage stated so far; None where there was none."""
        return Usage(**self._counts) if self._counts else None

    def body_start(self) -> bytes:
        """The first bytes of the body, at most `BODY_START`."""
        return bytes(self._start)


def _end_of_object(data: bytes, begin: int) -> int | None:
    """The position behind the brace that closes the object at `begin`; None where it is not within reach."""
    depth = 0
    for token in _TOKEN.finditer(data, begin, begin + _LARGEST_OBJECT):
        match token[0]:
            case b"{":
                depth += 1
            case b"}":
                depth -= 1
                if depth == 0:
                    return token.end()
            case b'"':
                return None
    return None


def _counts(stated: object) -> dict[str, int]:
    """One usage object in our terms; only what it states, nothing where it is not one of tokens."""
    if not isinstance(stated, dict):
        return {}
    counts: dict[str, int | None] = {"output_tokens": _output(stated)}
    if "cache_read_input_tokens" in stated or "cache_creation_input_tokens" in stated:
        counts["input_tokens"] = _first(stated, "input_tokens")
        counts["cache_creation_tokens"] = _first(stated, "cache_creation_input_tokens")
        counts["cache_read_tokens"] = _first(stated, "cache_read_input_tokens")
    else:
        counts |= _split_prompt(stated)
    return {name: count for name, count in counts.items() if count is not None}


def _split_prompt(stated: dict[str, object]) -> dict[str, int | None]:
    """OpenAI, DeepSeek and Gemini state the whole prompt, and what of it was cached."""
    prompt = _first(stated, "prompt_tokens", "input_tokens", "promptTokenCount", "total_input_tokens")
    if prompt is None:
        return {}
    details = stated.get("prompt_tokens_details") or stated.get("input_tokens_details")
    read = _first(details, "cached_tokens")
    if read is None:
        read = _first(stated, "prompt_cache_hit_tokens", "cachedContentTokenCount", "total_cached_tokens")
    read = min(prompt, read or 0)
    written = min(prompt - read, _first(details, "cache_write_tokens") or 0)
    tools = _first(stated, "toolUsePromptTokenCount") or 0
    return {
        "input_tokens": prompt - read - written + tools,
        "cache_creation_tokens": written,
        "cache_read_tokens": read,
    }


def _output(stated: dict[str, object]) -> int | None:
    """The tokens generated; Gemini counts its thoughts apart."""
    output = _first(stated, "completion_tokens", "output_tokens", "candidatesTokenCount", "total_output_tokens")
    thoughts = _first(stated, "thoughtsTokenCount", "total_thought_tokens")
    if output is None and thoughts is None:
        return None
    return (output or 0) + (thoughts or 0)


def _first(stated: object, *names: str) -> int | None:
    return next((count for name in names if (count := count_of(dig(stated, name))) is not None), None)
