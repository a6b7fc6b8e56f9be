"""Kinds of tasks: functions by name, with what holds for all their tasks unless a submission says otherwise.

1. Only who knows a kind's function is given its tasks: each asks for a capability, the tag `kind:NAME`.
2. Names and figures are checked when the function is registered, or the task submitted; never when it runs.
"""

from __future__ import annotations

import inspect
import time
from datetime import datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from msgspec.structs import replace

from cross_instance.asking import urgency_of
from cross_instance.config import account_names
from cross_instance.membership.accounts import account_key
from cross_instance.rules.operations import FOREVER, SECOND, NewTask, Push
from cross_instance.rules.task_checks import push as check_push
from cross_instance.tasks.payloads import encode_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cross_instance.rules.operations import Priority

KIND_TAG = "kind:"


class Options(TypedDict, total=False):
    """What can be said of a task, when its function is registered or when it is submitted. Times in seconds.

    `priority` (normal): critical, high, normal, low or background. `timeout` (none): of one attempt. `retries` (3):
    after failed attempts, each after `backoff` (1), doubled up to `max_backoff` (600), of which the task waits
    between a half and the whole. `max_deaths` (3): how many owners may die with it. `retention` (a day): how long it
    is kept once it is over. `stealable` (true): whether other instances may take it over. `tags`: what whoever runs
    it must be able to do. `provider`, `model`, `account`: where it spends; it is not stolen while that account is
    the bottleneck. `queue`: the instance it is meant for, "" for whoever comes first.
    """

    priority: str | Priority
    timeout: float
    retries: int
    backoff: float
    max_backoff: float
    max_deaths: int
    retention: float
    stealable: bool
    tags: Sequence[str]
    provider: str
    model: str
    account: str
    queue: str


class Times(NamedTuple):
    """When a task is to run: a wall time and a delay, in µs; the later holds."""

    run_at: int = 0
    delay: int = 0


class Kind(NamedTuple):
    """A function that runs tasks, with its options."""

    name: str
    function: Callable[..., Any]
    options: Options
    is_async: bool


class Kinds:
    """The kinds that one runtime knows, and the tasks made of them.

    `account` is used where nothing else is said; `queue` tells the one that tasks are meant for.
    """

    def __init__(self, account: str, queue: Callable[[], str]) -> None:
        self.by_name: dict[str, Kind] = {}
        self._account = account
        self._queue = queue

    def register(self, name: str, function: Callable[..., Any], options: Options) -> None:
        """Let a function run the tasks of a name. Raises `ValueError` and `TypeError` for what makes no sense."""
        if name in self.by_name:
            raise ValueError(f"there is a task {name!r} already")
        if not callable(function):
            raise TypeError(f"a task is a function, not {function!r}")
        kind = Kind(name, function, options, inspect.iscoroutinefunction(function))
        check_push(Push((self._spec(name, b"", options),)))
        self.by_name[name] = kind

    def make(
        self,
        kind: str | Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        options: Options,
        key: str = "",
        times: Times = Times(),  # noqa: B008  # immutable
    ) -> NewTask:
        """A task as it is submitted. Raises `PayloadError`, `ValueError` and `TypeError` for what makes no sense."""
        name = kind if isinstance(kind, str) else self._name_of(kind)
        known = self.by_name.get(name)
        merged: Options = {**known.options, **options} if known else options
        spec = self._spec(name, encode_call(args, kwargs), merged, key, times)
        check_push(Push((spec,)))
        return spec

    def make_many(
        self,
        kind: str | Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        options: Options,
        key: Callable[..., str] | None,
        times: Times,
    ) -> Iterator[NewTask]:
        """Tasks that differ in their arguments only; `key` makes each one's key. Raises as `make` does."""
        pattern = self.make(kind, (), {}, options, times=times)
        for call in calls:
            if not isinstance(call, tuple):
                raise TypeError(f"each call is a tuple of arguments, not {call!r}")
            payload = encode_call(call, {})
            yield replace(pattern, task=new_id(), payload=payload, key="" if key is None else key(*call))

    def tags(self) -> tuple[str, ...]:
        """The capabilities that come with the functions."""
        return tuple(KIND_TAG + name for name in self.by_name)

    def _name_of(self, function: Callable[..., Any]) -> str:
        for kind in self.by_name.values():
            if kind.function is function:
                return kind.name
        raise ValueError(f"{function!r} is not registered as a task of this runtime")

    def _spec(
        self,
        name: str,
        payload: bytes,
        options: Options,
        key: str = "",
        times: Times = Times(),  # noqa: B008  # immutable
    ) -> NewTask:
        given: dict[str, Any] = {**options}
        unknown = given.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"a task has no option {', '.join(sorted(unknown))}")
        provider, account = self._account_of(options)
        for what in ("timeout", "backoff", "max_backoff", "retention"):
            if what in given:
                given[what] = micros(what, given[what])
        given |= {"priority": urgency_of(options.get("priority", "normal")), "provider": provider, "account": account}
        given |= {"tags": (KIND_TAG + name, *own_tags(options.get("tags", ())))}
        given.setdefault("queue", self._queue())
        return NewTask(new_id(), name, payload, key=key, run_at=times.run_at, delay=times.delay, **given)

    def _account_of(self, options: Options) -> tuple[str, str]:
        """The provider, and the account as operations name it; both "" where no provider is named."""
        if not options.get("provider"):
            return "", ""
        provider, account = account_names(options["provider"], options.get("account") or self._account)
        return provider, account_key(provider, account)


def own_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Capabilities as a caller names them. Raises `ValueError`, `TypeError` for what is none."""
    if isinstance(tags, str):
        raise TypeError(f"tags are a list of strings, not the string {tags!r}")
    if any(tag.startswith(KIND_TAG) for tag in tags):
        raise ValueError(f"tags that begin with {KIND_TAG!r} stand for the functions themselves")
    return tuple(tags)


def micros(what: str, seconds: float) -> int:
    """A time in seconds as operations have it. Raises `ValueError` where it is negative or not a number."""
    if not seconds >= 0:
        raise ValueError(f"{what} is a number of seconds, 0 or more, not {seconds}")
    return min(round(seconds * SECOND), FOREVER) if seconds < FOREVER / SECOND else FOREVER


def times_of(delay: float, run_at: datetime | float | None) -> Times:
    """When a task is to run. Raises `ValueError` for a delay that is none, or a time without its zone."""
    if isinstance(run_at, datetime):
        if run_at.tzinfo is None:
            raise ValueError(f"run_at {run_at} does not say its time zone")
        run_at = run_at.timestamp()
    return Times(micros("run_at", run_at or 0.0), micros("delay", delay))


def new_id() -> str:
    """An id that no other task has; ids sort by time."""
    return f"{time.time_ns() // 1_000_000:011x}{token_hex(8)}"
