"""Reading the settings: all layers put together, completed with defaults, checked against each other.

1. Strongest first: arguments, environment, the project's files, the user's files, defaults. Layers are merged key by
   key, down to the single limit of a single model; a list is replaced as a whole.
2. Each source was checked by itself when it was read; here only what concerns several settings at once is.
3. Read again while a process runs, only the files are: arguments, environment, working and home folder are those of the
   start, and what cannot change then (`schema.is_live`) stays as it was.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cross_instance.config import schema
from cross_instance.config.forms import spelled
from cross_instance.config.limits import first_problem
from cross_instance.config.settings import DEFAULT, NO_EFFECT, Adaptive, Instance, Limits, Provider, Settings
from cross_instance.config.sources import (
    Found,
    argument_layer,
    environment_layer,
    files_from,
    folder_layers,
    merged,
    project_folder,
)
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cross_instance.config.schema import Setting
    from cross_instance.config.sources import KeyPath, Layer

T = TypeVar("T")

log = logging.getLogger("cross_instance")


def load_settings(
    project_dir: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    **arguments: object,
) -> Settings:
    """Read every source and put the settings together.

    `project_dir` is where the search for `.pi` starts (None: the working directory); `environ` and `home` stand in
    for the process's environment and the user's home folder; `arguments` are settings in snake_case, such as
    `heartbeat_interval_ms=500` or `providers={"openai": {"burst": 10}}`, None meaning not given.

    Raises `ConfigError`.
    """
    return sources_of(project_dir, environ=environ, home=home, **arguments).load()


def sources_of(
    project_dir: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    **arguments: object,
) -> Sources:
    """Where settings come from, to be read more than once; see `load_settings`. Raises `ConfigError`."""
    try:
        home = Path.home() if home is None else home.absolute()
        here = Path.cwd()
    except (OSError, RuntimeError) as error:
        raise _unusable(error) from error
    given = [
        argument_layer(arguments, here, home),
        environment_layer(os.environ if environ is None else environ, here, home),
    ]
    return Sources(here / os.path.normpath(project_dir or here), home, merged(given))


@dataclass(frozen=True)
class Sources:
    """Where the settings of one process come from: what it was `given`, and the files of its project and user."""

    start: Path
    """Where the search for the project begins."""
    home: Path
    given: Layer = field(repr=False)

    def files(self) -> tuple[Path, ...]:
        """Every file that has a say, or would have if it existed."""
        return files_from(self.start, self.home)

    def load(self) -> Settings:
        """Put the settings together. Raises `ConfigError`."""
        values, project = self._read()
        settings = _checked(values, project)
        _tell_reserved(tuple(entry.place for entry in settings.reserved()))
        return settings

    def reload(self, before: Settings) -> Reloaded:
        """What the files say now, where other settings were in force `before`. Raises `ConfigError`."""
        values, project = self._read()
        _checked(values, project)
        known = before._values
        differing = sorted(p for p in {*values, *known} if _value(values, p) != _value(known, p))
        live = {path: found for path, found in values.items() if schema.is_live(path)}
        fixed = {path: found for path, found in known.items() if not schema.is_live(path)}
        return Reloaded(
            settings=_checked({**live, **fixed}, before.project_dir),
            changed=tuple(".".join(path) for path in differing if schema.is_live(path)),
            waiting=tuple(".".join(path) for path in differing if not schema.is_live(path)),
        )

    def _read(self) -> tuple[Layer, Path]:
        """Every value, and the project's folder. Raises `ConfigError`."""
        try:
            project = project_folder(self.start, self.home)
        except (OSError, RuntimeError) as error:
            raise _unusable(error) from error
        folders = dict.fromkeys(folder for folder in (project, self.home) if folder is not None)
        read = [layer for folder in folders for layer in folder_layers(folder, self.home)]
        given = merged([self.given, *read])
        return merged([given, _defaults(given, self.home)]), project or self.start


@dataclass(frozen=True)
class Reloaded:
    """What another reading of the files gave: the `settings` that can be in force now, the keys whose values have
    `changed` in them, and the keys `waiting` for the next start of the process."""

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(f"the project's or the home folder cannot be used: {error}")


def _checked(values: Layer, project: Path) -> Settings:
    """The settings that values make. Raises `ConfigError` where they contradict each other."""
    settings = _build(values, project)
    _check(settings, values)
    return settings


def _value(values: Layer, path: KeyPath) -> object:
    found = values.get(path)
    return None if found is None else found.value


@cache
def _tell_reserved(entries: tuple[str, ...]) -> None:
    """Warn, once in a process, that settings have no effect."""
    if entries:
        log.warning("%s: %s", NO_EFFECT, ", ".join(entries))


def check_arguments(**arguments: object) -> None:
    """Check settings that are used beside loaded ones, in snake_case; None means not given. Raises `ConfigError`."""
    argument_layer(arguments, Path.cwd(), Path.home())


def _defaults(given: Layer, home: Path) -> Layer:
    """The weakest layer: what holds where nothing is set."""
    port = given[schema.COORDINATOR_PORT.path].value if schema.COORDINATOR_PORT.path in given else None
    factors = (schema.REDUCTION_FACTOR.path, schema.RECOVERY_FACTOR.path)
    values: dict[KeyPath, object] = {s.path: s.default for s in schema.GENERAL if s.default is not None}
    values[schema.RUNTIME_DIR.path] = str(home / ".pi" / "runtime")
    values[schema.COORDINATOR_ADDR.path] = f"localhost:{port or schema.COORDINATOR_PORT.default}"
    values[schema.ADAPTIVE_MODE.path] = "simple" if any(path in given for path in factors) else "estimate"
    return {path: Found(value, DEFAULT) for path, value in values.items()}


def _build(values: Layer, project: Path) -> Settings:
    def optional(setting: Setting[T]) -> T | None:
        found = values.get(setting.path)
        return None if found is None else found.value

    def value(setting: Setting[T]) -> T:
        known: T = values[setting.path].value
        return known

    return Settings(
        enabled=value(schema.ENABLED),
        instance_id=optional(schema.INSTANCE_ID),
        account=value(schema.ACCOUNT),
        store=optional(schema.STORE),
        runtime_dir=Path(value(schema.RUNTIME_DIR)),
        project_dir=project,
        profile=value(schema.PROFILE),
        total_max_llm=optional(schema.TOTAL_MAX_LLM),
        default_total_max_llm=schema.DEFAULT_TOTAL_MAX_LLM[value(schema.PROFILE)],
        heartbeat_interval=value(schema.HEARTBEAT_INTERVAL) / 1_000,
        heartbeat_timeout=value(schema.HEARTBEAT_TIMEOUT) / 1_000,
        work_stealing=value(schema.WORK_STEALING),
        ageing=value(schema.AGEING) * 1_000,
        logging=value(schema.LOGGING),
        log_format=value(schema.LOG_FORMAT),
        coordinator_port=value(schema.COORDINATOR_PORT),
        coordinator_addr=value(schema.COORDINATOR_ADDR),
        adaptive=Adaptive(
            enabled=value(schema.ADAPTIVE_ENABLED),
            mode=value(schema.ADAPTIVE_MODE),
            reduction_factor=value(schema.REDUCTION_FACTOR),
            recovery_factor=value(schema.RECOVERY_FACTOR),
            min_requests_per_minute=optional(schema.MIN_RATE),
            max_requests_per_minute=optional(schema.MAX_RATE),
            predictive=value(schema.PREDICTIVE),
        ),
        providers=_providers(values),
        instances=_instances(values),
        _values=values,
    )


def _providers(values: Layer) -> dict[str, Provider]:
    names = sorted({path[1] for path in values if path[0] == "providers"})
    return {name: _provider(values, ("providers", name)) for name in names}


def _provider(values: Layer, place: KeyPath) -> Provider:
    configured = _limits(values, place)
    hosts = values.get((*place, "baseUrls"))
    return Provider(
        limits=configured.limits,
        models=configured.models,
        accounts={name: _limits(values, (*place, "accounts", name)) for name in _names(values, (*place, "accounts"))},
        base_urls=() if hosts is None else hosts.value,
    )


def _limits(values: Layer, place: KeyPath) -> Limits:
    patterns = _names(values, (*place, "models"))
    return Limits(_keys(values, place), {pattern: _keys(values, (*place, "models", pattern)) for pattern in patterns})


def _keys(values: Layer, place: KeyPath) -> dict[str, int]:
    """The limits that stand in one place."""
    found = {limit.key: values.get((*place, limit.key)) for limit in schema.LIMITS}
    return {key: value.value for key, value in found.items() if value is not None}


def _names(values: Layer, place: KeyPath) -> list[str]:
    """The names given below a place, in order."""
    return sorted({path[len(place)] for path in values if path[: len(place)] == place})


def _instances(values: Layer) -> dict[str, Instance]:
    def value(setting: Setting[int], name: str) -> int:
        found = values.get(("instances", name, setting.path[-1]))
        return setting.value_unset if found is None else found.value

    return {
        name: Instance(value(schema.PRIORITY, name), value(schema.RESERVED_CAPACITY, name))
        for name in _names(values, ("instances",))
    }


def _check(settings: Settings, values: Layer) -> None:
    """Raise `ConfigError` where settings contradict each other."""
    _check_order(values, schema.HEARTBEAT_INTERVAL, schema.HEARTBEAT_TIMEOUT, equal=False)
    _check_order(values, schema.MIN_RATE, schema.MAX_RATE, equal=True)
    _check_hosts(settings.providers, values)
    for places, limits, group in _places(settings.providers):
        problem = first_problem(places[0][1], limits, group=group)
        if problem is not None:
            key, message = problem
            path = next((*place, key) for place in places if (*place, key) in values)
            raise _error(message, path, values)


def _check_order(values: Layer, smaller: Setting[int], larger: Setting[int], *, equal: bool) -> None:
    low, high = values.get(smaller.path), values.get(larger.path)
    if low is None or high is None or low.value < high.value or (equal and low.value == high.value):
        return
    blamed, other, word = (smaller, larger, "at most" if equal else "less than")
    if low.source == DEFAULT:
        blamed, other, word = (larger, smaller, "more than")
    message = f"must be {word} `{other.key}`, which is {values[other.path].value} ({values[other.path].origin})"
    raise _error(message, blamed.path, values)


def _check_hosts(providers: Mapping[str, Provider], values: Layer) -> None:
    owners: dict[str, str] = {}
    for name, provider in providers.items():
        for host in provider.base_urls:
            if owners.setdefault(host, name) != name:
                message = f"{host} is `{owners[host]}` already"
                raise _error(message, ("providers", name, "baseUrls"), values)


def _places(providers: Mapping[str, Provider]) -> Iterator[tuple[list[KeyPath], Mapping[str, int], bool]]:
    """Every set of limits that will be in force together: the places it is made from, and whether it is a group."""
    for name, provider in providers.items():
        place: KeyPath = ("providers", name)
        yield from _places_of([place], provider)
        for account, limits in provider.accounts.items():
            yield from _places_of([(*place, "accounts", account), place], limits.over(provider))


def _places_of(places: list[KeyPath], limits: Limits) -> Iterator[tuple[list[KeyPath], Mapping[str, int], bool]]:
    yield places, limits.limits, False
    for pattern, keys in limits.models.items():
        yield [(*place, "models", pattern) for place in places], keys, True


def _error(message: str, path: KeyPath, values: Layer) -> ConfigError:
    return ConfigError(message, origin=values[path].origin, key=".".join(spelled(part) for part in path))
