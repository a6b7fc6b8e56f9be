"""Which requests are model calls, and what each of them asks for.

1. The provider is the one given to the client, or the one whose host the request goes to. Requests to any other
   host, and those that are no model calls (`GET /v1/models`, batches), pass through untouched.
2. Two request headers speak to this library and are never sent on: `X-CI-Priority` (critical, high, normal, low or
   background) and `X-CI-Timeout` (seconds, see `Call.budget`). A wrong value is refused, not guessed.
3. Without `X-CI-Timeout` a call may take as long as the request's own read timeout says, for waiting in the queue and
   for sending again; without that either, `DEFAULT_BUDGET`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import msgspec

from cross_instance.providers.tokens import Calibration, RequestInfo, costs_of, read_request
from cross_instance.rules.operations import Costs, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cross_instance.clients.attempts import Permit

DEFAULT_BUDGET = 600.0
"""Seconds; the timeout of one attempt in the openai and anthropic SDKs (their `DEFAULT_TIMEOUT`)."""

PRIORITY_HEADER = "x-ci-priority"
TIMEOUT_HEADER = "x-ci-timeout"
OWN_HEADERS = frozenset({PRIORITY_HEADER, TIMEOUT_HEADER})

HOSTS = 256
"""Hosts whose provider is remembered."""

_PRIORITIES = tuple(priority.name.lower() for priority in Priority)


class BadHeaderError(ValueError):
    """An `X-CI-...` header cannot be understood; the message says what is accepted."""


class Head(msgspec.Struct, frozen=True):
    """A request without its body.

    `host` with its port, unless that is the scheme's own; `path` with its query; headers are found by names in lower
    case; `read_timeout` in seconds, None: none was set.
    """

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    read_timeout: float | None = None


class Call(msgspec.Struct, frozen=True):
    """One model call. `budget`: seconds for waiting in the queue, and in which it may be sent again."""

    provider: str
    info: RequestInfo
    costs: Costs
    priority: str
    budget: float
    replayable: bool


class Settings(Protocol):
    """What is used of the runtime's settings."""

    def provider_for_host(self, host: str, /) -> str | None:
        """The provider whose host this is."""


class Runtime(Protocol):
    """What is used of a `Runtime` or `AsyncRuntime`."""

    @property
    def settings(self) -> Settings:
        """Where providers are known by their hosts."""

    @property
    def calibration(self) -> Calibration:
        """What is learned of the tokens of requests."""

    def permit(
        self,
        provider: str,
        model: str,
        *,
        costs: Costs,
        priority: str,
        timeout: float,
        account: str | None,
    ) -> Permit:
        """A permit that is not taken yet; `timeout` in seconds."""


class Caller:
    """A runtime, as one client uses it: for every known provider or for a given one, and one account of it."""

    def __init__(self, runtime: Runtime, provider: str | None = None, account: str | None = None) -> None:
        self.runtime = runtime
        self._provider = provider and provider.lower()
        self._account = account
        self._hosts = self._hosts_of(runtime.settings)

    def provider_of(self, head: Head) -> str | None:
        """Who may be asked something, to be seen from the body; None where the request can be no model call."""
        if head.method != "POST":
            return None
        return self._provider or self._known(head.host)

    def _known(self, host: str) -> str | None:
        """The provider of a host, by the settings in force."""
        settings = self.runtime.settings
        if self._hosts[0] is not settings:
            self._hosts = self._hosts_of(settings)
        return self._hosts[1](host)

    @staticmethod
    def _hosts_of(settings: Settings) -> tuple[Settings, Callable[[str], str | None]]:
        return settings, lru_cache(HOSTS)(settings.provider_for_host)

    def call(self, provider: str, head: Head, body: bytes | None) -> Call | None:
        """What is asked for, None where it is no model call; `body` is None where it could not be kept.

        Raises `BadHeaderError`.
        """
        content_type = head.headers.get("content-type", "")
        info = read_request(provider, head.method, head.path, content_type, body or b"")
        if info is None:
            return None
        return Call(
            provider=provider,
            info=info,
            costs=costs_of(provider, info, self.runtime.calibration),
            priority=_priority(head.headers),
            budget=_budget(head),
            replayable=body is not None,
        )

    def permit(self, call: Call, timeout: float) -> Permit:
        """A permit for one attempt, not taken yet; `timeout` in seconds."""
        return self.runtime.permit(
            call.provider,
            call.info.model,
            costs=call.costs,
            priority=call.priority,
            timeout=timeout,
            account=self._account,
        )


def _priority(headers: Mapping[str, str]) -> str:
    priority = headers.get(PRIORITY_HEADER, "normal").strip().lower()
    if priority not in _PRIORITIES:
        raise BadHeaderError(f"X-CI-Priority must be one of {', '.join(_PRIORITIES)}, not {priority!r}")
    return priority


def _budget(head: Head) -> float:
    text = head.headers.get(TIMEOUT_HEADER)
    if text is None:
        return DEFAULT_BUDGET if head.read_timeout is None else head.read_timeout
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadHeaderError(f"X-CI-Timeout must be a number of seconds, such as 30 or 0.5, not {text!r}")
    return seconds
