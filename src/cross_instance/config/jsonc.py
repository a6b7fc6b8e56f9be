"""JSON as people write it: comments and trailing commas accepted, the line of every value kept.

1. Accepted beyond RFC 8259: `// …` and `# …` to the end of the line, `/* … */`, a comma after the last element.
2. Refused although many parsers take it: NaN and Infinity, and a key given twice in one object.
3. Whatever the text, the only error is `ConfigError`, and it names the file and the line.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cross_instance.config.forms import spelled
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 32
"""Objects and lists inside each other; the deepest setting needs eight."""

MAX_DIGITS = 30
"""A whole number of more digits is read as a float: no setting is that large, and `int` is slow on long texts."""

_BLANK = re.compile(r"(?:\s++|//[^\n]*+|#[^\n]*+|/\*(?s:.*?)\*/)*+")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\[^\n])*+"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.])")
_WORD = re.compile(r"-?[^\W\d]\w*+")
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Node:
    """A value with the line on which it is given; for a member of an object, the line of its key."""

    value: bool | int | float | str | list[Node] | dict[str, Node] | None
    line: int


def parse(text: str, name: str) -> Node:
    """Read a whole document; `name` is the file's, for messages. Raises `ConfigError`."""
    return _Parser(text, name).document()


class _Parser:
    """A recursive descent over the text; `_at` is the offset of what comes next."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Node:
        node = self._value(0)
        if self._peek():
            self._fail(f"expected the end of the file, found {self._found()}")
        return node

    def _value(self, depth: int) -> Node:
        mark = self._peek()
        line = self._line()
        if depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep")
        if mark == "{":
            return Node(self._object(depth), line)
        if mark == "[":
            return Node([self._value(depth + 1) for _ in self._elements("]")], line)
        if mark == '"':
            return Node(self._string(), line)
        return Node(self._scalar(), line)

    def _object(self, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        for _ in self._elements("}"):
            line = self._line()
            if self._peek() != '"':
                self._fail(f"expected a key in double quotes, found {self._found()}")
            key = self._string()
            if key in members:
                self._fail(f"the key `{spelled(key)}` is given twice, first in line {members[key].line}", line)
            self._take(":")
            members[key] = Node(self._value(depth + 1).value, line)
        return members

    def _elements(self, end: str) -> Iterator[None]:
        """Step over the opening bracket, the commas and the closing one; yields where an element starts."""
        self._at += 1
        while self._peek() != end:
            yield
            if self._peek() != end:
                self._take(",", f"`,` or `{end}`")
        self._at += 1

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            self._fail("a text is not closed on its line")
        try:
            value: str = json.loads(match[0])
        except json.JSONDecodeError as error:
            self._fail(f"a text cannot be read: {error.msg}")
        self._at = match.end()
        return value

    def _scalar(self) -> bool | float | None:
        number = _NUMBER.match(self._text, self._at)
        if number is not None:
            self._at = number.end()
            text = number[0]
            return int(text) if text.lstrip("-").isdigit() and len(text) <= MAX_DIGITS else float(text)
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _CONSTANTS:
            self._fail(f"expected a value, found {self._found()}")
        self._at = word.end()
        return _CONSTANTS[word[0]]

    def _peek(self) -> str:
        """Skip blanks and comments; the next character, "" at the end."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank is not None else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, mark: str, wanted: str | None = None) -> None:
        if self._peek() != mark:
            self._fail(f"expected {wanted or f'`{mark}`'}, found {self._found()}")
        self._at += 1

    def _found(self) -> str:
        """What stands here, without quoting a text: it may be a secret."""
        mark = self._peek()
        if not mark:
            return "the end of the file"
        if self._text.startswith("/*", self._at):
            return "a comment that is not closed"
        word = _WORD.match(self._text, self._at)
        return f"`{spelled(word[0] if word else mark)}`" if mark != '"' else "a text"

    def _line(self) -> int:
        return bisect_left(self._breaks, self._at) + 1

    def _fail(self, message: str, line: int | None = None) -> NoReturn:
        raise ConfigError(message, origin=f"{self._name}:{line or self._line()}") from None
