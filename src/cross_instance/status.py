"""Status: what a snapshot of the store means to people and programs.

1. Figures are the configured ones, without the guard; usage is what was granted in the last 60 s.
2. Every limit says where it comes from. Text names the source wherever it is not the user's own configuration.
3. The two texts, and the structure of `pi_instance_status`, are those of the user guide.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from cross_instance.providers.presets import KNOWN, preset
from cross_instance.rules.limits import new_limit, start_low
from cross_instance.rules.operations import CLUSTER, MINUTE, SECOND, Instant, Kind, LimitState, Source
from cross_instance.spelling import camel_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cross_instance.config import Settings
    from cross_instance.events import Event
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import FlowState, InstanceState, LimitSpec, NodeState, World

OTHER_MODELS = "(other models)"
"""The group of an account's models that no pattern fits."""
NOBODY = "No instance is connected."
USUAL_TIMEOUT = 60.0
"""Seconds without a heartbeat after which an instance is called silent, where the settings do not say otherwise."""

LABELS = {
    Kind.REQUESTS_DAY: "Requests/day",
    Kind.TOKENS: "Tokens/minute",
    Kind.INPUT_TOKENS: "Input tokens/minute",
    Kind.OUTPUT_TOKENS: "Output tokens/minute",
    Kind.CONCURRENCY: "Concurrency",
}


class Place(NamedTuple):
    """What a node's name says; all three are empty for the cluster, `pattern` for an account itself."""

    provider: str
    account: str
    pattern: str

    @property
    def label(self) -> str:
        """The account as it is shown: the provider, and the account's name where it is not the default one."""
        return self.provider if self.account in {"", "default"} else f"{self.provider}/{self.account}"


def place_of(node: str) -> Place:
    """The parts of a node's name, "openai/default#gpt-4o"."""
    account, _, pattern = node.partition("#")
    provider, _, name = account.partition("/")
    return Place(provider, name, pattern)


def group_of(node: str) -> str:
    """The model pattern that a node's name says, `OTHER_MODELS` for the group of the rest, "" for an account itself."""
    return OTHER_MODELS if node.endswith("#") else place_of(node).pattern


@dataclass(frozen=True)
class Limit:
    """One limit in force. `model` is its pattern ("": all of the account); `period` in seconds (0: slots).

    `available` may be negative: what is owed. `used`: requests granted in the last 60 s, for the limits on requests
    of whole accounts. `provider` is "" for the limit across all accounts.
    """

    provider: str
    account: str
    model: str
    kind: str
    amount: int
    burst: int
    period: float
    source: str
    available: int
    used: int | None = None


@dataclass(frozen=True)
class Status:
    """How an instance stands. `world` is what was seen in the store.

    `degraded` says what is wrong with the store, `share_left` for how many seconds permits still come from this
    instance's last fair share then (None: they come from the store), `shares` what that is, by account.
    `taken_over`: another process has this instance's id. `unseen`: why others of this machine cannot see at once when
    it ends. `ignored`: settings that have no effect. `config_problem`: what is wrong with the files of settings since
    they were changed. `notices` is what the store had to say lately, `events` everything that was told.
    """

    instance_id: str
    incarnation: int
    enabled: bool
    store: str
    degraded: str | None
    notices: tuple[str, ...]
    world: World | None
    share_left: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    taken_over: str | None = None
    unseen: str | None = None
    ignored: tuple[str, ...] = ()
    config_problem: str | None = None
    events: tuple[Event, ...] = ()

    @property
    def guessed(self) -> tuple[str, ...]:
        """The accounts of whose limits nothing is known."""
        return guessed_accounts(self.world)

    @property
    def connected(self) -> bool:
        """Whether the instance is in the store's registry."""
        world = self.world
        return world is not None and any(i.incarnation == self.incarnation for i in world.instances)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data with camelCase keys, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain |= {"connected": self.connected, "guessed": self.guessed, "shares": None}
        plain["events"] = [event.to_dict() for event in self.events]
        return {**camel_keys(plain), "shares": dict(self.shares)}


def status_of(membership: Membership, world: World | None) -> Status:
    """How an instance of this process stands; `world`: what it sees in the store now."""
    outage, standing, settings = membership.fallback.outage, membership.standing, membership.settings
    return Status(
        instance_id=membership.instance_id,
        incarnation=membership.incarnation,
        enabled=settings.enabled,
        store=membership.address,
        degraded=standing.trouble if outage is None else str(outage.error),
        notices=tuple(notice.text for notice in standing.notices),
        world=world,
        share_left=None if outage is None else outage.seconds_left(),
        shares={} if outage is None else {name: share.fraction for name, share in outage.shares.items()},
        taken_over=standing.taken_over,
        unseen=standing.unseen,
        ignored=tuple(entry.key for entry in settings.reserved()),
        config_problem=membership.live.problem,
        events=tuple(membership.events.recent),
    )


def guessed_accounts(world: World | None) -> tuple[str, ...]:
    """The accounts with a limit that is a guess, in the order of their names."""
    nodes = () if world is None else world.nodes
    return tuple(node.node for node in nodes if any(limit.source is Source.GUESS for limit in node.limits))


# --- limits --------------------------------------------------------------------------------------------------------


def limits_of(world: World | None, settings: Settings | None = None, provider: str | None = None) -> tuple[Limit, ...]:
    """The limits in force, and those that the settings would put in force for accounts that nobody uses now.

    `provider` narrows them to one; its preset or guess is then told even if nobody configured or uses it.
    """
    nodes = () if world is None else world.nodes
    seen = [limit for node in nodes for limit in _limits_at(node)]
    known = {limit.provider for limit in seen}
    planned = []
    if settings is not None:
        names = [name for name in _planned(settings, known, provider) if name not in known]
        planned = [limit for name in names for limit in _limits_planned(settings, name)]
    limits = seen + planned
    return tuple(sorted((one for one in limits if provider in {None, one.provider}), key=_order))


def _planned(settings: Settings, known: set[str], provider: str | None) -> Sequence[str]:
    if provider is not None:
        return [provider]
    if settings.providers or known - {""}:
        return list(settings.providers)
    return [name for name in KNOWN if preset(name).source is Source.PRESET]


def _limits_at(node: NodeState) -> Iterator[Limit]:
    place = place_of(node.node)
    for state in node.limits:
        counted = state.kind is Kind.REQUESTS and node.node != CLUSTER and not place.pattern
        yield _limit(place, state, state.available, node.used if counted else None)


def _limits_planned(settings: Settings, provider: str) -> Iterator[Limit]:
    spec = settings.account_spec(provider, settings.account)
    for limit in spec.limits:
        used = 0 if limit.kind is Kind.REQUESTS else None
        yield _limit(Place(provider, settings.account, ""), limit, _at_first(limit), used)
    for pattern, limits in spec.groups:
        for limit in limits:
            yield _limit(Place(provider, settings.account, pattern), limit, _at_first(limit), None)


def _at_first(spec: LimitSpec) -> int:
    """What a limit allows when it comes in force: all of it, or little where it is not really known."""
    limit = new_limit(spec, Instant(0, 0))
    if spec.source in {Source.PRESET, Source.GUESS}:
        start_low(limit)
    return spec.amount if spec.kind is Kind.CONCURRENCY else limit.level // limit.den


def _limit(place: Place, of: LimitState | LimitSpec, available: int, used: int | None) -> Limit:
    amount, period = of.amount, 0 if of.kind is Kind.CONCURRENCY else of.period
    if of.source is Source.LEARNED and period > MINUTE:
        amount, period = max(1, round(amount * MINUTE / period)), MINUTE
    return Limit(
        provider=place.provider,
        account=place.account,
        model=place.pattern,
        kind=of.kind.value,
        amount=amount,
        burst=of.burst,
        period=period / SECOND,
        source=of.source.value,
        available=available,
        used=used,
    )


def _order(limit: Limit) -> tuple[Any, ...]:
    return *_rank(limit.provider), limit.account, limit.model, list(Kind).index(Kind(limit.kind))


def _rank(provider: str) -> tuple[int, str]:
    """Well-known providers first, in their usual order."""
    return KNOWN.index(provider) if provider in KNOWN else len(KNOWN), provider


# --- what was learned ----------------------------------------------------------------------------------------------


def learned_of(world: World, accounts: Sequence[str]) -> dict[str, Any]:
    """What was learned of accounts and their model groups by 429s, as plain data with camelCase keys."""
    return {
        node.node: camel_keys(node.learned)
        for node in world.nodes
        if node.learned is not None and node.learned.rejected and node.node.partition("#")[0] in accounts
    }


# --- one instance --------------------------------------------------------------------------------------------------


def instance_status(status: Status) -> dict[str, Any]:
    """The guide's Example 4: the instance's id, whether it is connected, its providers, its requests under way."""
    mine = [] if status.world is None else [i for i in status.world.instances if i.incarnation == status.incarnation]
    return {
        "instanceId": status.instance_id,
        "coordinatorConnected": status.connected,
        "providers": {use.label: use.to_dict() for i in mine for use in _uses(status.world, i)},
        "activeRequests": sum(i.held for i in mine),
    }


class Use(NamedTuple):
    """What one instance used of one account in the last 60 s."""

    label: str
    used: int
    limit: LimitState | None

    def to_dict(self) -> dict[str, int | None]:
        """As in the guide; None where the account has no limit on requests."""
        return {
            "requestsPerMinute": None if self.limit is None else _per_minute(self.limit),
            "currentUsage": self.used,
            "burstAvailable": None if self.limit is None else max(0, self.limit.available),
        }

    def __str__(self) -> str:
        if self.limit is None:
            return f"{self.label}: {self.used} requests"
        amount = _per_minute(self.limit)
        return f"{self.label}: {self.used}/{amount} requests ({round(100 * self.used / amount)}%)"


def _uses(world: World | None, instance: InstanceState) -> list[Use]:
    nodes = () if world is None else world.nodes
    found = [(place_of(node.node), node, flow) for node in nodes for flow in _flows(node, instance)]
    found.sort(key=lambda one: (*_rank(one[0].provider), one[0].account))
    return [Use(place.label, flow.used, _requests(node)) for place, node, flow in found]


def _flows(node: NodeState, instance: InstanceState) -> list[FlowState]:
    return [flow for flow in node.flows if flow.incarnation == instance.incarnation and node.node != CLUSTER]


def _requests(node: NodeState) -> LimitState | None:
    return next((limit for limit in node.limits if limit.kind is Kind.REQUESTS), None)


def _per_minute(limit: LimitState | Limit) -> int:
    period = limit.period if isinstance(limit, LimitState) else limit.period * SECOND
    return round(limit.amount * MINUTE / period)


# --- the guide's texts ---------------------------------------------------------------------------------------------


def format_instance_status(world: World, timeout: float = USUAL_TIMEOUT) -> str:
    """What `pi_instance_status` prints: every instance, whether it is connected, and its use of each provider.

    `timeout`: seconds without a heartbeat after which an instance is called silent; settings have `heartbeat_timeout`.
    """
    texts = [_instance_text(world, instance, timeout) for instance in world.instances]
    return "\n\n".join(texts) or NOBODY


def _instance_text(world: World, instance: InstanceState, timeout: float) -> str:
    silent = (world.at.wall - instance.beat_at) / SECOND
    lines = [
        f"Instance: {instance.instance_id}",
        "  Status: Connected" if silent <= timeout else f"  Status: Silent for {silent:.0f} s",
        f"  Active requests: {instance.held}",
    ]
    uses = _uses(world, instance)
    if uses:
        lines += ["  Provider usage:", *(f"    {use}" for use in uses)]
    return "\n".join(lines)


def format_model_limits(world: World | None, provider: str | None = None, settings: Settings | None = None) -> str:
    """What `pi_model_limits` prints: each provider's limits and their use by all instances."""
    accounts: dict[str, list[Limit]] = {}
    for limit in limits_of(world, settings, provider):
        if limit.provider:
            label = Place(limit.provider, limit.account, "").label
            accounts.setdefault(label, []).append(limit)
    texts = [_account_text(label, limits) for label, limits in accounts.items()]
    return "\n\n".join(texts) or "No provider is in use."


def _account_text(label: str, limits: list[Limit]) -> str:
    lines = [f"Provider: {label}"]
    for limit in limits:
        if not limit.model:
            lines += _limit_lines(limit)
    for pattern in dict.fromkeys(limit.model for limit in limits if limit.model):
        lines.append(f"  Model {pattern}:")
        lines += [f"  {line}" for limit in limits if limit.model == pattern for line in _limit_lines(limit)]
    return "\n".join(lines)


def _limit_lines(limit: Limit) -> list[str]:
    source = "" if limit.source == Source.CONFIGURED else f" ({limit.source})"
    if limit.kind != Kind.REQUESTS:
        return [f"  {LABELS[Kind(limit.kind)]}: {limit.amount}{source}"]
    rate = _per_minute(limit)
    lines = [f"  Requests/minute: {rate}", f"  Burst: {limit.burst}"]
    if limit.used is not None:
        lines.append(f"  Current usage: {limit.used}/{rate}")
    return [*lines, f"  Source: {limit.source}"] if source else lines
