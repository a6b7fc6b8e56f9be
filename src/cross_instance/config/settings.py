"""The settings in force, frozen, and what follows from them: limits of accounts, weights, hosts.

1. For every value in force it can be said where it came from.
2. A password is never part of what is shown, nor of a representation.
3. Nothing here reads a file or the environment: `load_settings` has done that.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cross_instance.config import limits as to_limits, schema
from cross_instance.providers import presets
from cross_instance.rules.learning_values import HIGHEST, UNIT, WHOLE
from cross_instance.rules.operations import AccountSpec, Kind, Learning, LimitSpec, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cross_instance.config.schema import Setting
    from cross_instance.config.sources import KeyPath, Layer

DEFAULT = "default"
"""The origin of a value that nobody set."""

NO_EFFECT = "accepted, not acted on by this version"
"""What is said of reserved settings."""

FIRST_SPREAD = 100_000
"""How long a first request may take from its grant until it is sent, in µs: a connection is made, a TLS session set up.
Assumed until it is measured."""

_PORT = re.compile(r":[0-9]+\Z")


@dataclass(frozen=True)
class Limits:
    """Configured limits by key, such as `{"requestsPerMinute": 500}`, and those that come on top by model pattern."""

    limits: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def over(self, weaker: Limits) -> Limits:
        """These limits, filled up key by key with weaker ones."""
        patterns = sorted({*self.models, *weaker.models})
        models = {p: {**weaker.models.get(p, {}), **self.models.get(p, {})} for p in patterns}
        return Limits({**weaker.limits, **self.limits}, models)


@dataclass(frozen=True)
class Provider(Limits):
    """What is configured for a provider; an account named here takes from the provider what it does not set."""

    accounts: Mapping[str, Limits] = field(default_factory=dict)
    base_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """What is configured for an instance: its weight in fair queueing, and requests per minute it is sure of."""

    priority: int
    reserved_capacity: int


@dataclass(frozen=True)
class Adaptive:
    """Adaptive rate control; the factors belong to mode `simple`, the bounds (None: unset) to both modes."""

    enabled: bool
    mode: str
    reduction_factor: float
    recovery_factor: float
    min_requests_per_minute: int | None
    max_requests_per_minute: int | None
    predictive: bool = False

    def learning(self) -> Learning | None:
        """The same as the rules take it; None: nothing is learned."""
        if not self.enabled:
            return None
        highest = HIGHEST if self.max_requests_per_minute is None else self.max_requests_per_minute * UNIT
        return Learning(
            simple=self.mode == "simple",
            reduction=min(WHOLE - 1, max(1, round(self.reduction_factor * WHOLE))),
            recovery=max(WHOLE + 1, round(self.recovery_factor * WHOLE)),
            lowest=min(highest, (self.min_requests_per_minute or 1) * UNIT),
            highest=highest,
            predicts=self.predictive,
        )


@dataclass(frozen=True)
class Entry:
    """One line of `config show`: `value` is None where nothing is set, and `text` then says what holds.

    `reserved`: this version does not act on it, set or not.
    """

    key: str
    value: Any
    text: str
    origin: str
    reserved: bool = False

    @property
    def place(self) -> str:
        """The key and where it was set, for messages."""
        return f"{self.key} ({self.origin})"


@dataclass(frozen=True)
class Settings:
    """All settings; see the reference page for their meaning. Made by `load_settings`."""

    enabled: bool
    instance_id: str | None
    account: str
    store: str | None = field(repr=False)
    """A URL, or an absolute folder; None: the embedded store in `runtime_dir`. It may hold a password."""
    runtime_dir: Path
    project_dir: Path
    """The folder whose `.pi` holds the project's files, logs and data."""
    profile: str
    total_max_llm: int | None
    """Only where it was set: then it is enforced."""
    default_total_max_llm: int
    heartbeat_interval: float
    """Seconds."""
    heartbeat_timeout: float
    """Seconds."""
    work_stealing: bool
    ageing: int
    """µs; 0: off."""
    logging: bool
    log_format: str
    coordinator_port: int
    coordinator_addr: str
    adaptive: Adaptive
    providers: Mapping[str, Provider]
    instances: Mapping[str, Instance]
    _values: Layer = field(repr=False)

    def account_spec(self, provider: str, account: str | None = None, *, wall: int | None = None) -> AccountSpec:
        """The limits of an account (None: the default one) as they are configured or preset.

        `wall` is Unix time in µs (None: now); daily limits of providers whose day has a fixed midnight depend on
        it, so a spec is best made anew every day.
        """
        provider = provider.lower()
        instant = time.time_ns() // 1_000 if wall is None else wall
        found = self._limits_of(provider, account or self.account)
        groups = ((p, to_limits.group_limits(provider, keys, instant)) for p, keys in found.models.items())
        return AccountSpec(
            limits=to_limits.account_limits(provider, found.limits, instant),
            groups=tuple((pattern, limits) for pattern, limits in groups if limits),
            origin=self._sources(provider, account or self.account) or presets.preset(provider).source.value,
            ageing=self.ageing,
            spread=FIRST_SPREAD,
            learning=self.adaptive.learning(),
        )

    def cluster_spec(self) -> AccountSpec | None:
        """The limit across all accounts; None where `totalMaxLlm` was not set."""
        if self.total_max_llm is None:
            return None
        slots = LimitSpec(kind=Kind.CONCURRENCY, amount=self.total_max_llm, burst=0, period=0)
        return AccountSpec(limits=(slots,), origin=self.origin_of(schema.TOTAL_MAX_LLM.key), ageing=self.ageing)

    def weight_and_reserve(self, instance_id: str) -> tuple[int, int]:
        """The instance's weight in fair queueing and its reserved requests per minute."""
        instance = self.instances.get(instance_id)
        if instance is None:
            return schema.PRIORITY.value_unset, schema.RESERVED_CAPACITY.value_unset
        return instance.priority, instance.reserved_capacity

    def provider_for_host(self, host: str) -> str | None:
        """The provider at `host` or `host:port`, by `baseUrls` first; None for a host that is none's.

        An address configured with a port is found with that port, or without any where the host is one provider's.
        """
        host = host.lower()
        addresses = {address: name for name, known in self.providers.items() for address in known.base_urls}
        exact_first = sorted(addresses, key=lambda address: (not _PORT.search(address), address.startswith("*")))
        found = presets.provider_for_host(host, {address: addresses[address] for address in exact_first})
        if found is not None or _PORT.search(host):
            return found
        owners = {owner for address, owner in addresses.items() if _PORT.sub("", address) == host}
        return owners.pop() if len(owners) == 1 else None

    def origin_of(self, key: str) -> str:
        """Where the value in force comes from: "file:line", a variable, "argument", "default", "preset" or "guess".

        Raises `KeyError` for a key that no setting has.
        """
        found = next((found for path, found in self._values.items() if ".".join(path) == key), None)
        if found is not None:
            return found.origin
        if not any(_matches(setting, key) for setting in schema.SETTINGS):
            raise KeyError(key)
        match key.split("."):
            case ["providers", provider, limit]:
                return self._unset_limits(provider.lower()).get(limit, (0, DEFAULT))[1]
        return DEFAULT

    def entries(self) -> Iterator[Entry]:
        """Every setting in force, presets of the known providers included, in the order of the reference page."""
        for setting in schema.GENERAL:
            yield self._entry(setting.path, setting)
        for path in sorted(path for path in self._values if path[0] == "instances"):
            yield self._entry(path, None)
        for provider in sorted({*presets.KNOWN, *self.providers}):
            yield from self._provider_entries(provider)

    def reserved(self) -> list[Entry]:
        """The settings that somebody set and that this version accepts without acting on them."""
        return [entry for entry in self.entries() if entry.reserved and entry.origin != DEFAULT]

    def _limits_of(self, provider: str, account: str) -> Limits:
        configured = self.providers.get(provider, Provider())
        return configured.accounts.get(account, Limits()).over(configured)

    def _sources(self, provider: str, account: str) -> str:
        """The files that say something about the limits of an account."""
        relevant = (
            found.source
            for path, found in self._values.items()
            if path[:2] == ("providers", provider)
            and path[-1] != "baseUrls"
            and (path[2] != "accounts" or path[3] == account)
        )
        return ", ".join(sorted(set(relevant)))

    def _unset_limits(self, provider: str) -> dict[str, tuple[int, str]]:
        """The limits in force of a provider that nobody set, with their origin, by key."""
        preset = presets.preset(provider)
        configured = self.providers.get(provider, Provider()).limits
        specs = {spec.kind: spec for spec in to_limits.account_limits(provider, configured, 0)}
        requests, slots = specs[Kind.REQUESTS], specs.get(Kind.CONCURRENCY)
        own_rate = requests.source is Source.CONFIGURED and preset.source is not Source.PRESET
        values = {
            "requestsPerMinute": (requests.amount, preset.source.value),
            "burst": (requests.burst, DEFAULT if own_rate else preset.source.value),
        }
        if slots is not None:
            values["concurrency"] = (slots.amount, slots.source.value)
        return {key: value for key, value in values.items() if key not in configured}

    def _provider_entries(self, provider: str) -> Iterator[Entry]:
        place = ("providers", provider)
        unset = {(*place, limit): value for limit, value in self._unset_limits(provider).items()}
        for path in sorted({*unset, *(p for p in self._values if p[:2] == place)}, key=_order):
            if path in unset:
                value, origin = unset[path]
                yield Entry(".".join(path), value, str(value), origin)
            else:
                yield self._entry(path, None)

    def _entry(self, path: KeyPath, setting: Setting[Any] | None) -> Entry:
        found = self._values.get(path)
        key = ".".join(path)
        reserved = setting is not None and setting.reserved
        if found is None:
            return Entry(key, None, f"({setting.unset})" if setting else "", DEFAULT, reserved)
        value = without_password(found.value) if setting and setting.secret else found.value
        return Entry(key, value, _text(value), found.origin, reserved)


def full_address(store: str | Path) -> str:
    """A store's URL, or its folder in full and without links: by it processes that share a store know each other."""
    address = str(store)
    return address if "://" in address else str(Path(address).expanduser().resolve())


def without_password(store: str) -> str:
    """A store's URL fit to be shown: the password, parameters' values and the fragment replaced by `***`.

    What is shown also tells stores apart, so the namespace stays.

    All that stands before the last `@` is taken for the user and password: they may hold anything unescaped.
    """
    scheme, separator, rest = store.partition("://")
    if not separator:
        return store
    userinfo, at, address = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    hidden = (f"{user}:***" if colon else "***") if at else ""
    address, hash_mark, _ = address.partition("#")
    address, question_mark, query = address.partition("?")
    query = "&".join(_shown(part) for part in query.split("&"))
    return f"{scheme}://{hidden}{at}{address}{question_mark and f'?{query}'}{hash_mark and '#***'}"


def _shown(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if name == "namespace":
        return parameter
    return f"{name}=***" if equals else "***"


def _order(path: KeyPath) -> tuple[KeyPath, int]:
    """Place by place, within one in the order of the table; what is no limit comes first."""
    keys = [limit.key for limit in schema.LIMITS]
    return path[:-1], keys.index(path[-1]) if path[-1] in keys else -1


def _matches(setting: Setting[Any], key: str) -> bool:
    """Whether the key is this setting's, with any names in place of those in angle brackets."""
    parts = (".+" if part.startswith("<") else re.escape(part) for part in setting.path)
    return re.fullmatch(r"\.".join(parts), key, re.DOTALL) is not None


def _text(value: object) -> str:
    """A value as `config show` prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
