"""The table of settings: reading, `config show` and the reference page all come from it.

1. A setting is named by its path under `crossInstance` in the file, by the same name in snake_case as an argument,
   and by its variable in the environment where it has one.
2. `<name>` in a path stands for any name; providers and model patterns are the same in any case.
3. Each limit stands in four places: a provider, one of its models, one of its accounts, a model of an account.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cross_instance.config.forms import PART, Address, Between, Choice, Form, Hosts, Integer, Location, Name, Switch

T = TypeVar("T")

DAY_MS = 86_400_000
MAX_WEIGHT = 1_000
"""The largest weight of an instance in fair queueing."""

FOLDED = frozenset({"<provider>", "<pattern>"})
"""The names whose case does not matter."""

NAMES = {"<provider>": PART, "<account>": PART, "<pattern>": Name(), "<id>": Name()}
"""What may stand in place of a name in angle brackets."""

DEFAULT_TOTAL_MAX_LLM = {"default": 6, "stable": 4}
"""By profile, as in the original coordinator; told, and not enforced."""


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting: `unset` tells what holds without it where that is no fixed `default`.

    `reserved`: it is checked, so that a file that has it is right, but this version does not act on it.
    """

    key: str
    form: Form[T]
    meaning: str
    default: T | None = None
    unset: str = ""
    variable: str | None = None
    secret: bool = False
    reserved: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The key's parts."""
        return tuple(self.key.split("."))

    @property
    def value_unset(self) -> T:
        """The default of a setting that has a fixed one."""
        assert self.default is not None, f"{self.key} has no fixed default"
        return self.default


def snake_case(key: str) -> str:
    """`totalMaxLlm` → `total_max_llm`."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower()


ENABLED = Setting(
    "enabled",
    Switch(),
    "Whether to coordinate at all; if not, everything passes through at once, and the status says so.",
    default=True,
    variable="PI_CROSS_INSTANCE_ENABLED",
)
INSTANCE_ID = Setting(
    "instanceId",
    Name(),
    "The name of this process, unique among the live ones.",
    unset="made from the session id, the pid and a random part",
    variable="PI_INSTANCE_ID",
)
ACCOUNT = Setting(
    "account",
    PART,
    "The account in use where a call does not name one; processes share limits within one account of a provider.",
    default="default",
    variable="PI_ACCOUNT",
)
STORE = Setting(
    "store",
    Location(urls=True),
    "Where the shared state lives: a folder of this machine, or the URL of a Redis or Valkey server that many machines "
    "share (`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`); a password in it is never "
    "shown.",
    unset="`runtimeDir`",
    variable="PI_STORE",
    secret=True,
)
RUNTIME_DIR = Setting(
    "runtimeDir",
    Location(),
    "The folder of the embedded store and of the instances' files; on a local disk.",
    unset="`~/.pi/runtime`",
    variable="PI_RUNTIME_DIR",
)
PROFILE = Setting(
    "profile",
    Choice(tuple(DEFAULT_TOTAL_MAX_LLM)),
    'What `totalMaxLlm` counts as in the coordinator\'s shares where it is not set: 6, or 4 if "stable".',
    default="default",
    variable="PI_RUNTIME_PROFILE",
)
TOTAL_MAX_LLM = Setting(
    "totalMaxLlm",
    Integer(),
    "Calls in flight at once over all accounts.",
    unset="no limit",
    variable="PI_TOTAL_MAX_LLM",
)
HEARTBEAT_INTERVAL = Setting(
    "heartbeatIntervalMs",
    Integer(greatest=DAY_MS, unit="milliseconds"),
    "How often an instance says that it lives.",
    default=15_000,
    variable="PI_HEARTBEAT_INTERVAL_MS",
)
HEARTBEAT_TIMEOUT = Setting(
    "heartbeatTimeoutMs",
    Integer(greatest=DAY_MS, unit="milliseconds"),
    "How long an instance may be silent before it is removed; longer than the interval.",
    default=60_000,
    variable="PI_HEARTBEAT_TIMEOUT_MS",
)
WORK_STEALING = Setting(
    "enableWorkStealing",
    Switch(),
    "Whether this instance takes over queued work of others.",
    default=True,
    variable="PI_ENABLE_WORK_STEALING",
)
AGEING = Setting(
    "ageingMs",
    Integer(least=0, greatest=DAY_MS, unit="milliseconds"),
    "After each such time a waiting request counts as one priority class higher; 0: classes are strict.",
    default=0,
)
LOGGING = Setting(
    "logging",
    Switch(),
    "Whether `.pi/logs/coordinator.log` and `.pi/logs/adaptive-rate-controller.log` are written.",
    default=True,
)
LOG_FORMAT = Setting(
    "logFormat",
    Choice(("text", "json")),
    "What is written there: the user guide's lines, or a JSON object for each event.",
    default="text",
)
COORDINATOR_PORT = Setting(
    "coordinatorPort",
    Integer(greatest=65_535),
    "The port on which the coordinator server listens.",
    default=8765,
    variable="PI_COORDINATOR_PORT",
    reserved=True,
)
COORDINATOR_ADDR = Setting(
    "coordinatorAddr",
    Address(),
    "Where other instances find the coordinator server.",
    unset="localhost with `coordinatorPort`",
    variable="PI_COORDINATOR_ADDR",
    reserved=True,
)

ADAPTIVE_ENABLED = Setting(
    "adaptiveRateControl.enabled",
    Switch(),
    "Whether limits are learned from the providers' answers.",
    default=True,
)
ADAPTIVE_MODE = Setting(
    "adaptiveRateControl.mode",
    Choice(("estimate", "simple")),
    "`estimate` measures the limit between rejections; `simple` multiplies by the two factors.",
    unset='"estimate"; "simple" where one of the factors is set',
)
REDUCTION_FACTOR = Setting(
    "adaptiveRateControl.reductionFactor",
    Between(0, 1),
    "What the rate is multiplied by after a 429, in mode `simple`.",
    default=0.9,
)
RECOVERY_FACTOR = Setting(
    "adaptiveRateControl.recoveryFactor",
    Between(1, 10),
    "What the rate is multiplied by while requests succeed, once a second at most, in mode `simple`.",
    default=1.05,
)
MIN_RATE = Setting(
    "adaptiveRateControl.minRequestsPerMinute",
    Integer(),
    "A learned rate never falls below this.",
    unset="no such bound",
)
MAX_RATE = Setting(
    "adaptiveRateControl.maxRequestsPerMinute",
    Integer(),
    "A learned rate never rises above this.",
    unset="no such bound",
)
PREDICTIVE = Setting(
    "adaptiveRateControl.predictive",
    Switch(),
    "Whether the rate is also reduced beforehand, by up to a fifth, as the share of 429s of the last hour rises.",
    default=False,
)

PRIORITY = Setting(
    "instances.<id>.priority",
    Integer(greatest=MAX_WEIGHT),
    "The instance's weight in fair queueing: with 10 it gets ten times the share of one with 1.",
    default=1,
)
RESERVED_CAPACITY = Setting(
    "instances.<id>.reservedCapacity",
    Integer(least=0),
    "Requests per minute the instance is sure of, per account; lent to others while it does not want them.",
    default=0,
)

BASE_URLS = Setting(
    "providers.<provider>.baseUrls",
    Hosts(),
    "Further hosts that are this provider; with a port, only that port.",
    unset="the provider's own hosts",
    secret=True,
)

LIMITS: tuple[Setting[int], ...] = (
    Setting("requestsPerMinute", Integer(), "Requests per minute.", unset="the preset"),
    Setting(
        "burst",
        Integer(),
        "Requests at once: the size of the bucket that `requestsPerMinute` refills.",
        unset="the preset's, at most `requestsPerMinute`; for a provider without preset a tenth of it",
    ),
    Setting("requestsPerDay", Integer(), "Requests per day; Gemini's day begins at midnight, Pacific time."),
    Setting("tokensPerMinute", Integer(), "Tokens per minute, as the provider counts them."),
    Setting("inputTokensPerMinute", Integer(), "Tokens of the prompt per minute."),
    Setting("outputTokensPerMinute", Integer(), "Tokens of the answer per minute."),
    Setting(
        "tokenBurst",
        Integer(),
        "Tokens at once, for each of the three token limits; for input and output at most one minute's worth.",
        unset="one minute's worth",
    ),
    Setting("concurrency", Integer(), "Calls in flight at once.", unset="no limit; 2 for an unknown provider"),
)
"""The limits, without the place they stand in."""

PLACES = (
    "providers.<provider>",
    "providers.<provider>.models.<pattern>",
    "providers.<provider>.accounts.<account>",
    "providers.<provider>.accounts.<account>.models.<pattern>",
)
"""Where limits stand."""

GENERAL: tuple[Setting[Any], ...] = (
    *(ENABLED, INSTANCE_ID, ACCOUNT, STORE, RUNTIME_DIR, PROFILE, TOTAL_MAX_LLM),
    *(HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, WORK_STEALING, AGEING, LOGGING, LOG_FORMAT),
    *(COORDINATOR_PORT, COORDINATOR_ADDR),
    *(ADAPTIVE_ENABLED, ADAPTIVE_MODE, REDUCTION_FACTOR, RECOVERY_FACTOR, MIN_RATE, MAX_RATE, PREDICTIVE),
)
"""The settings whose paths hold no names."""

NAMED: tuple[Setting[Any], ...] = (PRIORITY, RESERVED_CAPACITY, BASE_URLS)

SETTINGS: tuple[Setting[Any], ...] = (
    *GENERAL,
    *NAMED,
    *(
        Setting(f"{place}.{limit.key}", limit.form, limit.meaning, unset=limit.unset)
        for place in PLACES
        for limit in LIMITS
    ),
)
"""Every setting there is."""

_LIVE = {setting.path for setting in (ENABLED, TOTAL_MAX_LLM, WORK_STEALING, AGEING)}
_LIVE_BRANCHES = {"adaptiveRateControl", "instances", "providers"}


def is_live(path: tuple[str, ...]) -> bool:
    """Whether a setting can change while a process runs: providers, how limits are learned, weights, reserves, the
    queue, and whether to coordinate at all.

    The others say who the instance is and where it is found: they hold until the process starts anew.
    """
    return path in _LIVE or path[0] in _LIVE_BRANCHES


Branch = dict[str, "Setting[Any] | Branch"]
"""The paths as a tree; a key in angle brackets stands for any name."""


def tree(settings: tuple[Setting[Any], ...] = SETTINGS) -> Branch:
    """The settings' paths as nested dictionaries."""
    root: Branch = {}
    for setting in settings:
        branch = root
        *parents, last = setting.path
        for part in parents:
            below = branch.setdefault(part, {})
            assert isinstance(below, dict), f"{setting.key} stands below a setting"
            branch = below
        branch[last] = setting
    return root


def did_you_mean(name: str, known: list[str], cutoff: float = 0.6) -> str | None:
    """The known name nearest to `name`; case, `_` and `-` do not count."""
    plain = {re.sub(r"[_-]", "", candidate).lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(re.sub(r"[_-]", "", name).lower(), plain, n=1, cutoff=cutoff)
    return plain[nearest[0]] if nearest else None
