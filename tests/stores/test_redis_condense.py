"""Lua texts as the server gets them: constants in place, no comments, and nothing else changed."""

from __future__ import annotations

import re

import pytest

from cross_instance.stores.redis.condense import bare, condensed, constants_of
from cross_instance.stores.redis.scripts import FIRST, LUA, Scripts
from cross_instance.stores.redis.wire import NAMES

QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'')


def texts() -> dict[str, str]:
    return {
        file.name.removesuffix(".lua"): bare(file.read_text()) for file in LUA.iterdir() if file.name[-4:] == ".lua"
    }


CASES = {
    "local MOST = 8\nlocal x = MOST + OTHER\n": "local x = 8 + OTHER\n",
    "local AA, BB =\n  1, 2\nreturn AA .. BB\n": "return 1 .. 2\n",
    "local A, BB = 1, 2\n": "local A, BB = 1, 2\n",  # one letter is no constant's name
    'local FORM = "<d\'"\nreturn FORM, \'FORM\', "FORM"\n': 'return "<d\'", \'FORM\', "FORM"\n',
    "local WEEK = 7 * DAY\nreturn WEEK / 2\n": "return (7 * 9) / 2\n",
    "local LOW = -1\nreturn LOW ^ 2\n": "return (-1) ^ 2\n",
    "return { DAY = DAY, [DAY] = records.DAY == DAY }\n": "return { DAY = 9, [9] = records.DAY == 9 }\n",
    "local STEP = f()\nlocal NAMES = { 'a' }\n": "local STEP = f()\nlocal NAMES = { 'a' }\n",
    "return 1 -- DAY is a comment\n  -- and this\n\n  + '--' .. DAY\n": "return 1 \n+ '--' .. 9\n",
}


@pytest.mark.parametrize("text", CASES)
def test_constants_are_written_where_their_names_stood(text: str) -> None:
    assert condensed(bare(text), {"DAY": "9"}) == CASES[text]


def test_a_constant_is_named_once() -> None:
    """A name that stood for two things would be written as the wrong one."""
    shared = {name for first in FIRST for name in constants_of(texts()[first], {})}
    for name, text in texts().items():
        declared = re.findall(r"^local ([A-Z][A-Z0-9_, ]*?) =", text, re.MULTILINE)
        names = [each for line in declared for each in line.split(", ")]
        assert len(names) == len(set(names)), name
        assert name in FIRST or not shared & set(names), name


@pytest.mark.parametrize("name", NAMES.values())
def test_no_constant_is_left_by_its_name(name: str) -> None:
    """What is left by name of a constant would be nil on the server."""
    scripts, read = Scripts(), texts()
    shared: dict[str, str] = {}
    for first in FIRST:
        shared |= constants_of(read[first], shared)
    unquoted = QUOTED.sub("", scripts[name].text)
    left = set(re.findall(r"(?<![\w.])[A-Z][A-Z0-9_]+\b(?!\s*=[^=])", unquoted))
    assert not left & set(shared)
    declared = set(re.findall(r"[A-Z][A-Z0-9_]+", " ".join(re.findall(r"\blocal ([A-Z][A-Z0-9_, ]*?) =", unquoted))))
    assert left <= declared | {"KEYS", "ARGV"}
