"""A process's seat at the coordinator: its runtime, made when it registers, and how the store is asked.

1. Not registered, nothing is asked: every function answers as an instance that is alone, and none raises.
2. What is registered is an instance of a `Runtime` like any other; its heartbeat thread keeps it alive.
3. Registered, a store that cannot be reached is `StoreUnavailable`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cross_instance.config import load_settings
from cross_instance.config.schema import DEFAULT_TOTAL_MAX_LLM, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, TOTAL_MAX_LLM
from cross_instance.coordinator.models import CoordinatorConfig
from cross_instance.coordinator.views import View, view_of
from cross_instance.errors import ConfigError
from cross_instance.rules.operations import Snapshot, TaskSnapshot
from cross_instance.runtime import Runtime
from cross_instance.spelling import camel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cross_instance.config import Settings
    from cross_instance.membership.membership import Membership
    from cross_instance.stores.base import Store

OVERRIDES = {
    "total_max_llm": TOTAL_MAX_LLM,
    "heartbeat_interval_ms": HEARTBEAT_INTERVAL,
    "heartbeat_timeout_ms": HEARTBEAT_TIMEOUT,
}
"""The fields of a `CoordinatorConfig`, and the settings behind them."""


class Seat:
    """What every part of a coordinator stands on; its arguments are those of `Runtime`."""

    def __init__(
        self,
        instance_id: str | None = None,
        *,
        store: str | Path | Store | None = None,
        settings: Settings | None = None,
        **overrides: Any,
    ) -> None:
        self._instance_id = instance_id
        self._store = store
        self._given = settings
        self._overrides = overrides
        self._runtime: Runtime | None = None
        self._registering = threading.RLock()

    @property
    def runtime(self) -> Runtime | None:
        """The runtime of this instance, for permits, locks and tasks; None while it is not registered."""
        runtime = self._runtime
        return runtime if runtime is not None and runtime.incarnation else None

    def register_instance(
        self,
        session_id: str,
        cwd: str | Path,
        config_overrides: CoordinatorConfig | Mapping[str, int] | None = None,
    ) -> None:
        """Join the registry, and send heartbeats from a thread until `unregister_instance` or the process's end.

        `cwd` is where the project's configuration is looked for, and shown to others. `config_overrides` may be
        partial; its keys are those of `CoordinatorConfig` or of the reference. A second time it only sends a heartbeat.
        Where coordination is switched off, nothing is registered.

        Raises `ConfigError`, `DuplicateInstance` and `StoreUnavailable` as a `Runtime` does.
        """
        with self._registering:
            if self.runtime is not None:
                self.update_heartbeat()
                return
            runtime = Runtime(
                self._instance_id,
                store=self._store,
                settings=self._given,
                session_id=session_id,
                project_dir=cwd,
                **self._overrides | self._arguments(config_overrides),
            )
            if runtime.join():
                self._runtime = runtime

    def unregister_instance(self) -> None:
        """Leave the registry: what is held is given back."""
        with self._registering:
            runtime, self._runtime = self._runtime, None
            if runtime is not None:
                runtime.close()

    def update_heartbeat(self) -> None:
        """Say that this instance lives."""
        member = self._member()
        if member is not None:
            member.work.beat()

    def is_coordinator_initialized(self) -> bool:
        """Whether this process is registered."""
        return self.runtime is not None

    def get_total_max_llm(self) -> int:
        """How many calls may run at once over all instances."""
        return total_of(self._settings())

    def get_env_overrides(self) -> dict[str, int]:
        """The fields of `CoordinatorConfig` that the environment sets.

        Raises `ConfigError`, naming a wrong variable.
        """
        settings = load_settings()
        config = vars(config_of(settings))
        return {
            name: config[name]
            for name, setting in OVERRIDES.items()
            if settings.origin_of(setting.key) == setting.variable
        }

    def _member(self) -> Membership | None:
        runtime = self.runtime
        return None if runtime is None else runtime._membership

    def _view(self) -> View | None:
        """Look at the store; None where this instance is not registered. One that was removed joins anew."""
        member = self._member()
        if member is None:
            return None
        incarnation, world = member.incarnation, member.run(Snapshot())
        if all(one.incarnation != incarnation for one in world.instances):
            member.rejoin(incarnation)
            world = member.run(Snapshot())
        return view_of(member, world, member.run(TaskSnapshot()))

    def _settings(self) -> Settings | None:
        """What is in force; before registration what would be, None where that is wrong."""
        runtime = self._runtime
        if runtime is not None:
            return runtime.settings
        try:
            return self._given or load_settings(**self._overrides)
        except ConfigError:
            return None

    def _arguments(self, config_overrides: CoordinatorConfig | Mapping[str, int] | None) -> dict[str, int]:
        """Overrides as arguments of a runtime. Raises `ConfigError` for those that would have no effect."""
        arguments = {} if config_overrides is None else _renamed(config_overrides)
        if arguments and self._given is not None:
            raise ConfigError("would have no effect beside the given settings", origin="config_overrides")
        return arguments


def total_of(settings: Settings | None) -> int:
    """The calls at once that settings tell."""
    if settings is None:
        return DEFAULT_TOTAL_MAX_LLM["default"]
    return settings.default_total_max_llm if settings.total_max_llm is None else settings.total_max_llm


def config_of(settings: Settings) -> CoordinatorConfig:
    """The settings of the coordinator that are in force."""
    return CoordinatorConfig(
        total_max_llm=total_of(settings),
        heartbeat_interval_ms=round(settings.heartbeat_interval * 1_000),
        heartbeat_timeout_ms=round(settings.heartbeat_timeout * 1_000),
    )


def _renamed(overrides: CoordinatorConfig | Mapping[str, int]) -> dict[str, int]:
    """Overrides by the names of settings. Raises `ConfigError` for a key that is none of the coordinator's."""
    named = vars(overrides) if isinstance(overrides, CoordinatorConfig) else overrides
    known = {spelling: name for name in OVERRIDES for spelling in (name, camel(name))}
    for key in named:
        if key not in known:
            raise ConfigError(f"unknown; known are {', '.join(OVERRIDES)}", origin="config_overrides", key=str(key))
    return {known[key]: value for key, value in named.items()}
