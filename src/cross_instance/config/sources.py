"""Where settings come from: arguments, environment, files; the only place that reads the latter two.

1. A layer is one source read and checked: a map from a setting's path to what was found there.
2. A `.pi` folder gives two layers: `config.json` (key `crossInstance`), and below it `config/provider-limits.json`
   (the value of `providers`, bare or under that key).
3. The project is the nearest folder, from the start upward, with such a file; the home folder's `.pi` is the
   user's and comes after it, and is the project's only for who starts in the home folder itself.
4. Everything wrong is a `ConfigError` that names the file and line, variable or argument, the key, and what is
   accepted. A variable that is set but empty is wrong too. The value of a secret setting is never quoted.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cross_instance.config import jsonc
from cross_instance.config.forms import FormError, Location, shown, spelled
from cross_instance.config.jsonc import Node
from cross_instance.config.schema import FOLDED, GENERAL, NAMES, SETTINGS, Setting, did_you_mean, snake_case, tree
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.config.schema import Branch

SECTION = "crossInstance"
CONFIG_FILE = Path(".pi", "config.json")
LIMITS_FILE = Path(".pi", "config", "provider-limits.json")

_TREE = tree()
_DEEPEST = max(len(setting.path) for setting in SETTINGS) + 1
_TYPO = 0.85
"""How near a foreign key of the file must be to `crossInstance` to be taken for a misspelling of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A checked value and where it stands: `source` is a file, a variable, "argument" or "default"."""

    value: Any = field(repr=False)
    source: str
    line: int | None = None

    @property
    def origin(self) -> str:
        """For example `/home/me/project/.pi/config.json:7`."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


KeyPath: TypeAlias = tuple[str, ...]
Layer: TypeAlias = dict[KeyPath, Found]


def merged(layers: Iterable[Layer]) -> Layer:
    """One map from several, the strongest given first."""
    values: Layer = {}
    for layer in reversed(tuple(layers)):
        values.update(layer)
    return values


def project_folder(start: Path, home: Path) -> Path | None:
    """The nearest folder from `start` upward that holds a file of settings, the home folder left out."""
    for folder in (start, *start.parents):
        eligible = folder == start or folder.resolve() != home.resolve()
        if eligible and any((folder / name).exists() for name in (CONFIG_FILE, LIMITS_FILE)):
            return folder
    return None


def files_from(start: Path, home: Path) -> tuple[Path, ...]:
    """The files that are read, or would be if they existed, where the search begins at `start`."""
    folders = dict.fromkeys((start, *start.parents, home))
    return tuple(folder / name for folder in folders for name in (CONFIG_FILE, LIMITS_FILE))


def folder_layers(folder: Path, home: Path) -> list[Layer]:
    """The two files of a `.pi` folder, the stronger first; a missing file is an empty layer."""
    return [_config_file(folder, home), _limits_file(folder, home)]


def environment_layer(environ: Mapping[str, str], base: Path, home: Path) -> Layer:
    """The settings given in the environment; a relative folder is under `base`."""
    layer: Layer = {}
    for setting in GENERAL:
        if setting.variable is not None and setting.variable in environ:
            reader = _Reader(setting.variable, base, home, layer)
            reader.leaf(setting, setting.path, setting.form.decode(environ[setting.variable]), None)
    return layer


def argument_layer(arguments: Mapping[str, object], base: Path, home: Path) -> Layer:
    """The settings given by the caller, in snake_case, objects as dictionaries; None means not given."""
    names = {snake_case(key): key for key in _TREE}
    reader = _Reader("argument", base, home, {})
    for name, value in arguments.items():
        if name not in names:
            raise reader.unknown((name,), list(names), None)
        if value is not None:
            key = names[name]
            reader.walk(_TREE[key], (key,), _node(value, 0))
    return reader.layer


def _config_file(folder: Path, home: Path) -> Layer:
    file = folder / CONFIG_FILE
    root = _document(file)
    reader = _Reader(str(file), folder, home, {})
    for key, node in reader.members(root, ()).items():
        if key == SECTION:
            reader.walk(_TREE, (), node)
        elif did_you_mean(key, [SECTION], _TYPO):
            raise reader.unknown((key,), [SECTION], node.line)
    return reader.layer


def _limits_file(folder: Path, home: Path) -> Layer:
    file = folder / LIMITS_FILE
    root = _document(file)
    reader = _Reader(str(file), folder, home, {})
    members = reader.members(root, ())
    node = members["providers"] if set(members) == {"providers"} else root
    reader.walk(_TREE["providers"], ("providers",), node)
    return reader.layer


def waits_for_a_writer(file: Path) -> bool:
    """Whether reading it might never end: it is neither a file nor a folder, but a pipe or a device.

    Raises `OSError` for one that is not there or cannot be reached.
    """
    mode = file.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _document(file: Path) -> Node:
    """The file's content, an empty object where there is no such file."""
    try:
        if waits_for_a_writer(file):
            raise ConfigError("is not a regular file", origin=str(file))
        text = file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return Node({}, 1)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("is not UTF-8 text", origin=f"{file}:{line}") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", origin=str(file)) from error
    return jsonc.parse(text, str(file))


def _node(value: object, depth: int) -> Node:
    """A caller's value in the shape that files have; what is too deep to be a setting is left as it is."""
    if isinstance(value, Path):
        return Node(str(value), 0)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return Node({str(key): _node(item, depth + 1) for key, item in value.items()}, 0)
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return Node([_node(item, depth + 1) for item in value], 0)
    return Node(value, 0)  # type: ignore[arg-type]  # the forms refuse what is none of these


class _Reader:
    """Walks one source along the tree of settings and fills a layer."""

    def __init__(self, source: str, base: Path, home: Path, layer: Layer) -> None:
        self.layer = layer
        self._source = source
        self._base = base
        self._home = home

    def walk(self, branch: Setting[Any] | Branch, path: KeyPath, node: Node) -> None:
        """Read the setting, or all settings below this branch."""
        if isinstance(branch, Setting):
            self.leaf(branch, path, _plain(node), node.line or None)
            return
        seen: set[str] = set()
        for written, child in self.members(node, path).items():
            key = written if written in branch else self._wildcard(branch, path, written, child.line)
            name = written.lower() if key in FOLDED else written
            if name in seen:
                raise self.error("given twice: upper and lower case are the same", (*path, name), child.line)
            seen.add(name)
            self.walk(branch[key], (*path, name), child)

    def leaf(self, setting: Setting[Any], path: KeyPath, value: object, line: int | None) -> None:
        """Check one value and keep it."""
        try:
            checked = setting.form.read(value)
            if isinstance(setting.form, Location):
                checked = setting.form.absolute(checked, self._base, self._home)
        except FormError:
            refused = "" if setting.secret else f", not {shown(value)}"
            raise self.error(f"must be {setting.form.accepted}{refused}", path, line) from None
        self.layer[path] = Found(checked, self._source, line)

    def members(self, node: Node, path: KeyPath) -> dict[str, Node]:
        """The members of an object."""
        if not isinstance(node.value, dict):
            raise self.error("must be an object { … }", path, node.line)
        return node.value

    def unknown(self, path: KeyPath, known: list[str], line: int | None) -> ConfigError:
        """The error for a key that is none."""
        nearest = did_you_mean(path[-1], known)
        hint = f"did you mean `{nearest}`?" if nearest else f"accepted are {', '.join(known)}"
        return self.error(f"unknown key; {hint}", path, line)

    def error(self, message: str, path: KeyPath, line: int | None) -> ConfigError:
        """An error that says where."""
        origin = Found(None, self._source, line or None).origin
        key = ".".join(spelled(part) for part in path)
        return ConfigError(message, origin=origin, key=key or None)

    def _wildcard(self, branch: Branch, path: KeyPath, name: str, line: int) -> str:
        """The branch's key that stands for any name. Raises where there is none, or the name cannot be one."""
        wildcard = next((key for key in branch if key.startswith("<")), None)
        if wildcard is None:
            raise self.unknown((*path, name), list(branch), line)
        try:
            NAMES[wildcard].read(name)
        except FormError:
            raise self.error(f"a name must be {NAMES[wildcard].accepted}", (*path, name), line) from None
        return wildcard


def _plain(node: Node) -> object:
    """The value without its lines."""
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value
