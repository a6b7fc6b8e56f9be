"""The limits of providers: the reference's `provider-limits`, by name.

    from cross_instance import provider_limits

    limits = provider_limits.resolve_limits("openai", "gpt-4o")
    print(limits.requests_per_minute, limits.source)

1. Registered (`coordinator.register_instance`), limits are those in force in the store; before that, those which the
   configuration and the presets would put in force. Nothing is kept here.
2. Every answer says where its figures come from: configured, told by the provider, learned, preset, or a guess.
3. Registered, a store that cannot be reached is `StoreUnavailable`; a wrong setting is a `ConfigError` at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cross_instance.config import account_names, load_settings
from cross_instance.coordinator import this_process
from cross_instance.errors import ConfigError
from cross_instance.providers.presets import KNOWN
from cross_instance.rules.operations import CLUSTER, Kind, Snapshot, World
from cross_instance.rules.patterns import most_specific
from cross_instance.status import Limit, format_model_limits, limits_of, place_of

if TYPE_CHECKING:
    from cross_instance.config import Settings

__all__ = ["ResolvedLimits", "format_limits_summary", "list_providers", "reload_limits", "resolve_limits"]

MINUTE = 60.0
"""Seconds."""


@dataclass(frozen=True)
class ResolvedLimits:
    """What holds for a model: the limits of its account, and on top those of the model pattern that decides for it.

    `pattern` is "" where no pattern fits. The properties give the strictest limit of a kind, None where there is none.
    """

    provider: str
    model: str
    account: str
    pattern: str
    limits: tuple[Limit, ...]

    @property
    def requests_per_minute(self) -> int | None:
        """Requests per minute."""
        return _per_minute(self._strictest(Kind.REQUESTS))

    @property
    def burst(self) -> int | None:
        """Requests at once."""
        limit = self._strictest(Kind.REQUESTS)
        return None if limit is None else limit.burst

    @property
    def tokens_per_minute(self) -> int | None:
        """Tokens of prompt and answer together per minute."""
        return _per_minute(self._strictest(Kind.TOKENS))

    @property
    def concurrency(self) -> int | None:
        """Calls in flight at once."""
        limit = self._strictest(Kind.CONCURRENCY)
        return None if limit is None else limit.amount

    @property
    def source(self) -> str | None:
        """Where the limit on requests comes from: "configured", "told", "learned", "preset" or "guess"."""
        limit = self._strictest(Kind.REQUESTS)
        return None if limit is None else limit.source

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data with the configuration's keys, ready for JSON; `limits` names every source."""
        return {
            "provider": self.provider,
            "model": self.model,
            "account": self.account,
            "pattern": self.pattern,
            "requestsPerMinute": self.requests_per_minute,
            "burst": self.burst,
            "tokensPerMinute": self.tokens_per_minute,
            "concurrency": self.concurrency,
            "source": self.source,
            "limits": [
                {"model": one.model, "kind": one.kind, "amount": one.amount, "period": one.period, "source": one.source}
                for one in self.limits
            ],
        }

    def _strictest(self, kind: Kind) -> Limit | None:
        found = [limit for limit in self.limits if limit.kind == kind]
        return min(found, key=lambda limit: limit.amount / (limit.period or 1.0), default=None)


def resolve_limits(provider: str, model: str = "", *, account: str | None = None) -> ResolvedLimits:
    """The limits of a model, or of the provider's other models. `account`: None is the one in use by default.

    Raises `ValueError` for a name that makes no sense.
    """
    settings, world = _seen()
    provider, account = account_names(provider, account or settings.account)
    found = [one for one in limits_of(world, settings, provider) if one.account == account]
    if not found:  # others of its accounts are in use: what this one would have
        found = list(limits_of(None, replace(settings, account=account), provider))
    pattern = most_specific({limit.model for limit in found if limit.model}, model) if model else ""
    held = tuple(limit for limit in found if limit.model in {"", pattern})
    return ResolvedLimits(provider, model, account, pattern, held)


def list_providers() -> tuple[str, ...]:
    """The providers that have a preset or known hosts, are configured, or are in use."""
    settings, world = _seen()
    used = set() if world is None else {place_of(node.node).provider for node in world.nodes if node.node != CLUSTER}
    return (*KNOWN, *sorted({*settings.providers, *used} - {*KNOWN}))


def reload_limits() -> None:
    """Read the files of settings again, and put in force at once what has changed in them.

    A running process does so by itself with each heartbeat. What was given as an argument stays. Only where this
    process is registered is there something to renew. Raises `ConfigError` where the files are wrong; then what was in
    force before stays so. Raises `StoreUnavailable`.
    """
    runtime = this_process.runtime
    if runtime is None:
        load_settings()
        return
    member = runtime._membership
    member.reloading.look()
    if member.live.problem is not None:
        raise ConfigError(member.live.problem)


def format_limits_summary(provider: str | None = None) -> str:
    """The limits and their use as `pi_model_limits` prints them, of one provider or of all."""
    settings, world = _seen()
    return format_model_limits(world, None if provider is None else provider.lower(), settings)


def _seen() -> tuple[Settings, World | None]:
    """The settings in force, and the store as it is now; None where this process is not registered."""
    runtime = this_process.runtime
    return (load_settings(), None) if runtime is None else (runtime.settings, runtime.run(Snapshot(counts=False)))


def _per_minute(limit: Limit | None) -> int | None:
    return None if limit is None else round(limit.amount * MINUTE / limit.period)
