"""What the wire formats have in common: a call as read, an answer to write, a problem to report.

1. Input is counted by characters of everything the model would read; an image counts a fixed number of tokens.
2. An answer is a list of pieces, one output token each: words, or fragments of a tool call's JSON.
3. A forced tool choice, or the header that asks for it, gives a tool call whose arguments fit the tool's schema.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.testing.provider.charging import Usage
    from cross_instance.testing.provider.config import FaultKind
    from cross_instance.testing.provider.limiter import Refusal

IMAGE_TOKENS = 258
"""Tokens of one image, as Gemini counts a small one; the others are of the same order."""

_WORDS = ("One", "account", "shared", "by", "many", "agents", "serves", "them", "all", "in", "turn", "and", "no", "429")
_FRAGMENT = 8
_IMAGES = frozenset(
    {"image_url", "input_image", "image", "source", "inlineData", "inline_data", "fileData", "file_data"}
)

encode = msgspec.json.Encoder().encode


class BadRequest(Exception):
    """The request cannot be served; the message says why."""


class Tool(NamedTuple):
    """A tool offered by a request, with the schema of its arguments."""

    name: str
    schema: dict[str, Any]


class Call(NamedTuple):
    """One model call. `characters` and `images` are its input; `tool` the tool that the answer is to call."""

    endpoint: str
    model: str
    stream: bool
    characters: int
    images: int = 0
    output_limit: int | None = None
    tool: Tool | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    @property
    def estimate(self) -> int:
        """Input tokens as estimated on arrival."""
        return max(1, -(-self.characters // 4) + self.images * IMAGE_TOKENS)

    @property
    def in_events(self) -> bool:
        """Whether the answer is a stream of server-sent events."""
        return self.stream and bool(self.options.get("sse", True))


class Answer(NamedTuple):
    """What to answer: `pieces` are its output tokens, `stop` == "stop", "length" or "tool"; `created` Unix time."""

    number: int
    created: int
    pieces: list[str]
    stop: str
    usage: Usage

    @property
    def text(self) -> str:
        """All pieces together."""
        return "".join(self.pieces)


class Piece(NamedTuple):
    """A part of a stream, with the number of output tokens it carries."""

    data: bytes
    tokens: int = 0


class Problem(NamedTuple):
    """An error to report. `wait` µs is told where known; `retry_after` is sent as it stands instead of it."""

    kind: FaultKind | Literal["bad_request", "not_found"]
    message: str
    number: int = 0
    refusal: Refusal | None = None
    wait: int | None = None
    retry_after: str | None = None
    code: str | None = None


def measure(*parts: object) -> tuple[int, int]:
    """Characters and images in parts of a request's body, however deep."""
    characters = images = 0
    todo: list[object] = list(parts)
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            characters += len(part)
        elif isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            for key, value in part.items():
                if key in _IMAGES and isinstance(value, dict | str):
                    images += 1
                elif key not in {"type", "role", "id"}:
                    todo.append(value)
    return characters, images


def words(count: int) -> list[str]:
    """A text of `count` tokens."""
    return [f"{word} " for word in islice(cycle(_WORDS), count)]


def fragments(tool: Tool) -> list[str]:
    """The arguments of a tool call as JSON, in pieces."""
    text = encode(example(tool.schema)).decode()
    return [text[start : start + _FRAGMENT] for start in range(0, len(text), _FRAGMENT)]


def example(schema: dict[str, Any]) -> Any:
    """A value that fits a JSON schema (or Gemini's form of one) well enough for a tool call."""
    if schema.get("enum"):
        return schema["enum"][0]
    match str(schema.get("type", "object")).lower():
        case "object":
            properties = schema.get("properties") or {}
            return {name: example(properties[name]) for name in properties}
        case "array":
            return [example(schema["items"])] if schema.get("items") else []
        case "integer":
            return 1
        case "number":
            return 1.5
        case "boolean":
            return True
    return "text"


def choose_tool(tools: Iterable[Tool], wanted: str | None) -> Tool | None:
    """The tool to call: the one named, or the first one for "*"; None where nothing is wanted or offered."""
    if wanted is None:
        return None
    return next((tool for tool in tools if wanted in ("*", tool.name)), None)


def text_field(body: dict[str, Any], key: str) -> str:
    """A field that must be a non-empty text."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"`{key}` is required and must be a string")
    return value


def count_field(body: dict[str, Any], *keys: str) -> int | None:
    """The first of the fields that is given; it must be a positive whole number."""
    for key in keys:
        value = body.get(key)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadRequest(f"`{key}` must be a positive whole number")
            return value
    return None
