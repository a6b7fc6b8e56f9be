"""The forms a setting's value can have: what is accepted, in words and in code.

1. `read` takes a value as JSON gives it and returns it ready for use, or raises `FormError`; it never guesses: a
   boolean is no number, a text of digits is no number, a number is no text.
2. `decode` turns the text of an environment variable into such a value; what it cannot decode it passes on as the
   text, which `read` then refuses.
3. `accepted` completes the sentence "must be …", in error messages and in the documentation alike.
"""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Generic, TypeVar
from urllib.parse import urlsplit

T_co = TypeVar("T_co", covariant=True)

MAX_NAME = 200
"""Characters in an instance id, an account name or a model pattern."""

MAX_TEXT = 2_000
"""Characters in a path or URL."""

MAX_AMOUNT = 10**9
"""The largest amount or burst of a limit, in units per minute or day, and the largest reserve."""

_SHOWN = 60
_LONG_NUMBER = 10**18
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


class FormError(ValueError):
    """The value does not have the form."""


class Form(ABC, Generic[T_co]):
    """Base of the forms: `kind` is the type's name in the documentation."""

    kind: ClassVar[str] = "text"

    @property
    @abstractmethod
    def accepted(self) -> str:
        """What is accepted, in words."""

    @abstractmethod
    def read(self, value: object) -> T_co:
        """The value, checked and ready for use. Raises `FormError`."""

    def decode(self, text: str) -> object:
        """The value that an environment variable's text stands for."""
        return text


@dataclass(frozen=True)
class Integer(Form[int]):
    """A whole number between two bounds, both included."""

    least: int = 1
    greatest: int = MAX_AMOUNT
    unit: str = ""
    kind: ClassVar[str] = "integer"

    @property
    def accepted(self) -> str:
        """For example "a whole number from 1 to 65,535"."""
        return f"a whole number {self.unit and f'of {self.unit} '}from {self.least} to {self.greatest:,}"

    def read(self, value: object) -> int:
        """Only an `int` within the bounds: 5.0 and true are refused."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.greatest:
            raise FormError
        return value

    def decode(self, text: str) -> object:
        """Plain ASCII digits only; `int` by itself would take blanks, underscores and other scripts' digits."""
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text


@dataclass(frozen=True)
class Between(Form[float]):
    """A number strictly between two bounds."""

    above: float
    below: float
    kind: ClassVar[str] = "number"

    @property
    def accepted(self) -> str:
        """For example "a number above 0 and below 1"."""
        return f"a number above {self.above:g} and below {self.below:g}"

    def read(self, value: object) -> float:
        """NaN lies between no bounds."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.above < value < self.below:
            raise FormError
        return float(value)


@dataclass(frozen=True)
class Switch(Form[bool]):
    """On or off."""

    kind: ClassVar[str] = "boolean"
    _WORDS: ClassVar[dict[str, bool]] = {
        **dict.fromkeys(("true", "1", "yes", "on"), True),
        **dict.fromkeys(("false", "0", "no", "off"), False),
    }

    @property
    def accepted(self) -> str:
        """The words accepted in a variable besides are told in the documentation."""
        return "true or false"

    def read(self, value: object) -> bool:
        """Only JSON's own true and false."""
        if not isinstance(value, bool):
            raise FormError
        return value

    def decode(self, text: str) -> object:
        """True, 1, yes, on and their opposites, in any case."""
        return self._WORDS.get(text.lower(), text)


@dataclass(frozen=True)
class Choice(Form[str]):
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def accepted(self) -> str:
        """The words."""
        return " or ".join(f'"{option}"' for option in self.options)

    def read(self, value: object) -> str:
        """Exactly one of the words."""
        if not isinstance(value, str) or value not in self.options:
            raise FormError
        return value


@dataclass(frozen=True)
class Name(Form[str]):
    """An instance id, an account, a provider or a model pattern; `without`: characters that have a meaning there."""

    longest: int = MAX_NAME
    without: str = ""

    @property
    def accepted(self) -> str:
        """The length and what it may contain."""
        besides = "".join(f", {character}" for character in self.without[:-1])
        last = f"{besides} and {self.without[-1]}" if self.without else ""
        return f"a text of 1 to {self.longest:,} characters without control characters{last}"

    def read(self, value: object) -> str:
        """Control characters, line separators and halves of surrogate pairs are refused."""
        if not isinstance(value, str) or not 1 <= len(value) <= self.longest:
            raise FormError
        if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
            raise FormError
        if any(character in value for character in self.without):
            raise FormError
        return value


PART = Name(without="/#")
"""A provider or an account: the names of what they share are made of both, as in `openai/default#gpt-4o`."""


@lru_cache(maxsize=1024)
def account_names(provider: str, account: str) -> tuple[str, str]:
    """A caller's provider, in lower case, and account. Raises `FormError`, a `ValueError`, for what cannot be one."""
    for what, name in (("provider", provider), ("account", account)):
        try:
            PART.read(name)
        except FormError:
            raise FormError(f"the name of {what} must be {PART.accepted}, not {shown(name)}") from None
    return provider.lower(), account


@dataclass(frozen=True)
class Location(Name):
    """A folder, or a URL where `urls` is set; a relative folder is made absolute with `absolute`."""

    longest: int = MAX_TEXT
    urls: bool = False

    @property
    def accepted(self) -> str:
        """A folder, or a folder or URL."""
        return "a folder or a URL" if self.urls else "a folder"

    def absolute(self, value: str, base: Path, home: Path) -> str:
        """The folder as an absolute path: `~` is `home`, a relative one is under `base`. A URL stays as it is.

        Raises `FormError` for another user's home (`~name`), which is not looked up.
        """
        if "://" in value:
            if not self.urls:
                raise FormError
            return value
        first, *rest = Path(value).parts or (".",)
        if first.startswith("~") and first != "~":
            raise FormError
        return str(home.joinpath(*rest) if first == "~" else base / value)


@dataclass(frozen=True)
class Address(Form[str]):
    """Where a server listens."""

    @property
    def accepted(self) -> str:
        """Host and port."""
        return "host:port or host, an IPv6 address in brackets"

    def read(self, value: object) -> str:
        """A host with, perhaps, a port from 1 to 65535."""
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) and len(value) <= MAX_TEXT else None
        if match is None or not 1 <= int(match["port"] or 1) <= 65_535:
            raise FormError
        return match[0]


@dataclass(frozen=True)
class Hosts(Form[tuple[str, ...]]):
    """The hosts of a provider, given as URLs, hosts or `*.` patterns; read as `host` or `host:port`."""

    kind: ClassVar[str] = "list of texts"

    @property
    def accepted(self) -> str:
        """URLs or hosts."""
        return 'a list of URLs or hosts such as ["https://llm.example.com/v1"]'

    def read(self, value: object) -> tuple[str, ...]:
        """Lower-cased hosts; the port only where one is given; the path plays no part."""
        if not isinstance(value, list):
            raise FormError
        return tuple(dict.fromkeys(_host(item) for item in value))


def _host(item: object) -> str:
    try:
        text = Name(MAX_TEXT).read(item)
        parts = urlsplit(text if "://" in text else f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise FormError from error
    if not name or re.search(r"\s", name):
        raise FormError
    bracketed = f"[{name}]" if ":" in name else name
    return bracketed if port is None else f"{bracketed}:{port}"


def spelled(name: str) -> str:
    """A name fit for one line of a message: escaped where it has unprintable characters, and cut."""
    safe = name if name.isprintable() else json.dumps(name)[1:-1]
    return safe if len(safe) <= _SHOWN else safe[:_SHOWN] + "…"


def shown(value: object) -> str:
    """A refused value, fit for one line of a message."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f'"{spelled(value)}"' if value else "an empty text"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "a number too large" if abs(value) >= _LONG_NUMBER else repr(value)
    return f"a value of type {type(value).__name__}"
