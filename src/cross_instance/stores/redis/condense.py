"""Condense: a Lua text as the server gets it.

1. A constant, which is an upper-case local at the beginning of a line with figures or texts for values, is written
   where its name stood. A local that functions share costs each of them, with each call, a search among all that are
   shared (`luaF_findupval` of Lua 5.1, the servers'): 8 of the 57 µs that scripts took for a permit and its settlement.
2. Comments and indentation are left out: half of the text, which the server keeps.
3. Texts in quotes stay as they are, and so do fields: `records.OPEN`, and the first of both in `{ OPEN = OPEN }`.
"""

from __future__ import annotations

import re

Constants = dict[str, str]
"""Names and what is written instead."""

_DECLARED = re.compile(r"^local ((?:[A-Z][A-Z0-9_]+(?:, )?)+) =\s+(\S.*)\n", re.MULTILINE)
_QUOTED = r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
_VALUE = re.compile(rf"{_QUOTED}|[0-9 ^*+()-]+")
_TOKEN = re.compile(
    r"""[A-Z"'-](?:"""
    r"""(?<=")(?:[^"\\\n]|\\.)*"|(?<=')(?:[^'\\\n]|\\.)*'"""  # a text in quotes
    r"""|(?<=-)-[^\n]*"""  # a comment
    r"""|(?<=\b[A-Z])[A-Z0-9_]+\b)"""  # what may be a constant's name
)
"""Begins with the characters of which one comes first: what is none of them is passed over quickly."""
_ASSIGNED = re.compile(r"\s*=(?!=)")


def constants_of(text: str, known: Constants) -> Constants:
    """The constants that a `bare` text declares, beside those that are known to it."""
    found: Constants = {}
    for declaration in _DECLARED.finditer(text):
        names, values = (
            part.strip().split(", ") for part in (declaration[1], _put_in_place(declaration[2], known | found))
        )
        if len(names) == len(values) and all(map(_VALUE.fullmatch, values)):
            found |= zip(names, map(_written, values), strict=True)
    return found


def condensed(text: str, known: Constants) -> str:
    """A `bare` text with its own constants, and those that are known to it, in place; without comments."""
    own = constants_of(text, known)
    left = _DECLARED.sub(lambda found: "" if found[1].split(", ")[0] in own else found[0], text)
    return _put_in_place(left, known | own)


def bare(text: str) -> str:
    """A text without indentation, empty lines and those that are comments."""
    lines = map(str.strip, text.split("\n"))
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("--"))


def _written(value: str) -> str:
    return value if value.isdecimal() or value[0] in "\"'" else f"({value})"


def _put_in_place(text: str, constants: Constants) -> str:
    def replace(found: re.Match[str]) -> str:
        token = found[0]
        if token.startswith("--"):
            return ""
        is_field = text[found.start() - 1 : found.start()] == "." or _ASSIGNED.match(text, found.end())
        return token if is_field else constants.get(token, token)

    return _TOKEN.sub(replace, text)
