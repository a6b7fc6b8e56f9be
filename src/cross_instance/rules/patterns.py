"""Which models a pattern means, and which of several patterns decides.

1. A pattern without wildcards matches its equal, the models it is a prefix of, and those that are a prefix of
   it (`claude-sonnet-4` and `claude-sonnet-4-20250514` match either way round).
2. A pattern with `*` or `?` matches as a glob over the whole name. Every other character is literal.
3. Case does not matter. The empty name matches only itself.
4. Of several matching patterns the most specific decides: an equal one, then the one with the most literal
   characters that cover the model, then the nearest of the longer names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WILDCARDS = "*?"


def matches(pattern: str, model: str) -> bool:
    """Whether a pattern means a model."""
    pattern, model = pattern.lower(), model.lower()
    if pattern == model:
        return True
    if not pattern or not model:
        return False
    if _is_glob(pattern):
        return _compiled(pattern).fullmatch(model) is not None
    return model.startswith(pattern) or pattern.startswith(model)


def most_specific(patterns: Iterable[str], model: str) -> str:
    """The pattern that decides for a model; "" where none matches."""
    found = [pattern for pattern in patterns if matches(pattern, model)]
    return min(found, key=lambda pattern: _vagueness(pattern.lower(), model.lower()), default="")


def _vagueness(pattern: str, model: str) -> tuple[bool, bool, int, str]:
    """The smaller, the more specific; the pattern itself breaks ties, so that all instances decide alike."""
    longer = not _is_glob(pattern) and len(pattern) > len(model)
    literal = sum(character not in WILDCARDS for character in pattern)
    return pattern != model, longer, literal if longer else -literal, pattern


def _is_glob(pattern: str) -> bool:
    return any(wildcard in pattern for wildcard in WILDCARDS)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.compile("".join(parts.get(char) or re.escape(char) for char in collapsed), re.DOTALL)
