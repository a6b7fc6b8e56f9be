"""Accounts: what one incarnation publishes of its limits, and which group of an account a model takes from.

1. An account is published once per incarnation, before its first permit; the store then says which model patterns
   hold, and under which revision.
2. Routes are remembered until the store calls them stale: a wrong one costs a round trip, never a wrong decision.
3. The settings may change meanwhile: what they say otherwise of an account than was published is published anew. Caps
   that overloads have shown (`in_flight`) go with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cross_instance.rules.operations import CLUSTER, AccountSpec, Configure, Kind, LimitSpec, Source
from cross_instance.rules.patterns import most_specific

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cross_instance.config import Settings

MAX_ROUTES = 4096
"""Models remembered; beyond that all are resolved anew."""


class Route(NamedTuple):
    """What a model resolves to."""

    account: str
    group: str
    revision: int


class Words(NamedTuple):
    """What an instance says of an account: its limits, the instance's weight and its reserve there."""

    spec: AccountSpec
    weight: int
    reserve: int


WITHDRAWN = Words(AccountSpec(), 1, 0)
"""That there is no limit."""


def account_key(provider: str, name: str) -> str:
    """How operations name an account: "openai/default"."""
    return f"{provider}/{name}"


class Accounts:
    """The accounts of one incarnation. `named`: the instance id by which the settings know its weight and reserve."""

    def __init__(self, settings: Settings, named: str, *, reserves: bool = True) -> None:
        self.routes: dict[tuple[str, str, str], Route] = {}
        """By provider, model and account name, as they were asked for."""
        self.publishing: set[str] = set()
        """Those whose publication is on its way to the store."""
        self.specs: dict[str, AccountSpec] = {}
        """What was published last, by account."""
        self.caps: dict[str, dict[str, int]] = {}
        """Calls at once that overloads have shown to be too many, by account and pattern ("": all of the account)."""
        self._named = named
        self._reserves = reserves
        self.take(settings)
        self._known: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._said: dict[str, Words] = {CLUSTER: self._words(CLUSTER)}

    def take(self, settings: Settings) -> None:
        """Have other settings from now on; what was published before holds until it is published anew."""
        self._settings = settings
        self._weight, reserve = settings.weight_and_reserve(self._named)
        self._reserve = reserve if self._reserves else 0

    def publication(self, incarnation: int, account: str) -> Configure:
        """The operation that publishes what the settings say of an account, or of the limit across all (`CLUSTER`)."""
        words = self._said[account] = self._words(account)
        if account != CLUSTER:
            self.specs[account] = words.spec
        return Configure(incarnation, account, *words)

    def outdated(self) -> list[str]:
        """What the settings speak of otherwise than was published, but for what is on its way."""
        return [
            account
            for account, said in list(self._said.items())
            if account not in self.publishing and self._words(account) != said
        ]

    def _words(self, account: str) -> Words:
        if account == CLUSTER:
            spec = self._settings.cluster_spec()
            return WITHDRAWN if spec is None else Words(self._signed(spec), self._weight, 0)
        provider, _, name = account.partition("/")
        spec = _capped(self._signed(self._settings.account_spec(provider, name)), self.caps.get(account, {}))
        return Words(spec, self._weight, self._reserve)

    def cap(self, account: str, pattern: str, slots: int | None) -> None:
        """Publish from now on that more than so many calls at once are too many; None: that is over."""
        caps = self.caps.setdefault(account, {})
        if slots is None:
            caps.pop(pattern, None)
        else:
            caps[pattern] = slots

    def _signed(self, spec: AccountSpec) -> AccountSpec:
        """A spec that says whose it is: two instances may have been given different arguments."""
        return msgspec.structs.replace(spec, origin=f"{spec.origin} of {self._named}")

    def guessed(self, account: str) -> bool:
        """Whether nothing is known of the account's limits but what was guessed."""
        spec = self.specs.get(account)
        return spec is not None and any(limit.source is Source.GUESS for limit in spec.limits)

    def published(self) -> tuple[str, ...]:
        """The accounts that have been published."""
        return tuple(self._known)

    def learn(self, account: str, revision: int, patterns: tuple[str, ...]) -> None:
        """Keep an account's patterns as the store has them now."""
        self._known[account] = (revision, patterns)
        self.routes = {asked: route for asked, route in self.routes.items() if route.account != account}

    def resolve(self, provider: str, model: str, name: str) -> Route:
        """Where a model's permits come from, as far as is known; revision 0 makes the store say it."""
        account = account_key(provider, name)
        revision, patterns = self._known.get(account, (0, ()))
        route = Route(account, most_specific(patterns, model), revision)
        if revision:
            if len(self.routes) >= MAX_ROUTES:
                self.routes = {}
            self.routes[provider, model, name] = route
        return route


def _capped(spec: AccountSpec, caps: Mapping[str, int]) -> AccountSpec:
    """A spec with caps on top, also of groups that only others publish."""
    slots = {pattern: (LimitSpec(Kind.CONCURRENCY, cap, 0, 0, Source.LEARNED),) for pattern, cap in caps.items()}
    if not slots:
        return spec
    known = dict(spec.groups)
    groups = {name: (*known.get(name, ()), *slots.get(name, ())) for name in (*known, *slots) if name}
    return msgspec.structs.replace(spec, limits=(*spec.limits, *slots.get("", ())), groups=tuple(groups.items()))
