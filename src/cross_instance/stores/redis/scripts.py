"""Scripts: the Lua files of the package, put together for the server.

1. Each operation has one file, named after it. What it requires are Lua modules, files of the same folder. They are put
   where it first requires one, and `require` runs each when it is first asked for: what is decided before pays for
   none of them. In front stand the files of `FIRST`, whose constants hold in all others.
2. What the server gets is condensed (`condense`).
3. A script is known to the server by the SHA-1 of its text: two versions of the package can share a server.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.stores.redis.condense import Constants, bare, condensed, constants_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LUA = files("cross_instance.stores") / "lua"
FIRST = ("clock", "forms")
_REQUIRED = re.compile(r'require "(\w+)"')
_REQUIRE = """\
local modules, loaded = {}, {}
local function require(name)
  if loaded[name] == nil then loaded[name] = modules[name]() end
  return loaded[name]
end
"""
"""What Lua's own `require` does; servers have none."""


class Script(NamedTuple):
    """A script's text, and the name by which the server knows it."""

    text: str
    sha: str


class Scripts:
    """The scripts, each read when it is first needed. `replaced` holds texts to be used for files of those names."""

    def __init__(self, replaced: Mapping[str, str] | None = None) -> None:
        self._replaced = replaced or {}
        self._known: dict[str, Script] = {}
        self._texts: dict[str, str] = {}
        self._constants: Constants = {}
        for name in FIRST:
            self._constants |= constants_of(self._read(name), self._constants)

    def __getitem__(self, name: str) -> Script:
        script = self._known.get(name)
        if script is None:
            text = self._together(name)
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            script = self._known[name] = Script(text, sha)
        return script

    def _together(self, name: str) -> str:
        operation = self._text(name)
        modules: dict[str, str] = {}
        self._reach(operation, modules)
        found = _REQUIRED.search(operation)
        here = operation.rfind("\n", 0, found.start()) + 1 if found else 0
        parts = [f"modules.{module} = function()\n{text}end\n" for module, text in modules.items()]
        return "".join((*map(self._text, FIRST), operation[:here], _REQUIRE, *parts, operation[here:]))

    def _reach(self, text: str, modules: dict[str, str]) -> None:
        """Add the modules that a text requires, and those that they require."""
        for module in _REQUIRED.findall(text):
            if module not in modules:
                modules[module] = self._text(module)
                self._reach(modules[module], modules)

    def _text(self, name: str) -> str:
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = condensed(self._read(name), self._constants)
        return text

    def _read(self, name: str) -> str:
        return bare(self._replaced.get(name) or (LUA / f"{name}.lua").read_text(encoding="utf-8"))
