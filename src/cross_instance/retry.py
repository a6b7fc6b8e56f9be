"""Retrying a call that met a rate limit: the guide's `retryWithBackoff`.

Each wait is at least what the error asks for, plus a random part that doubles its range from retry to retry ("full
jitter", Brooker, "Exponential Backoff and Jitter", AWS 2015), so that callers who failed together come back apart.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from cross_instance.errors import RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")


def is_rate_limit(error: BaseException) -> bool:
    """Whether an error says that a rate limit was met: by this package's code or by an SDK's status 429."""
    return getattr(error, "code", None) == RateLimitExceeded.code or getattr(error, "status_code", None) == 429


def delays(retries: int, base: float, cap: float) -> Iterator[float]:
    """The random parts of the waits, in seconds."""
    for retry in range(retries):
        yield random.random() * min(cap, base * 2**retry)


@overload
def retry_with_backoff(
    call: Callable[[], Awaitable[T]], *, retries: int = ..., base: float = ..., cap: float = ...
) -> Awaitable[T]: ...
@overload
def retry_with_backoff(call: Callable[[], T], *, retries: int = ..., base: float = ..., cap: float = ...) -> T: ...
def retry_with_backoff(call: Callable[[], Any], *, retries: int = 5, base: float = 1.0, cap: float = 60.0) -> Any:
    """Call until it meets no rate limit; any other error is raised at once, as is the last one.

    `call` takes no arguments. Where it gives an awaitable, so does this: `await retry_with_backoff(lambda: ask())`.
    It is called up to 1 + `retries` times; the random part of a wait begins with a range of `base` seconds and
    ends with `cap`.
    """
    waits = delays(retries, base, cap)
    while True:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  # `_wait` raises it again unless it is to be retried
            time.sleep(_wait(error, waits))
            continue
        return _awaiting(result, call, waits) if inspect.isawaitable(result) else result


async def _awaiting(first: Awaitable[T], call: Callable[[], Any], waits: Iterator[float]) -> T:
    attempt = first
    while True:
        try:
            return await attempt
        except Exception as error:  # noqa: BLE001  # likewise
            await asyncio.sleep(_wait(error, waits))
        attempt = cast("Awaitable[T]", call())


def _wait(error: Exception, waits: Iterator[float]) -> float:
    """Seconds to wait before the next try; raises the error again where there is none."""
    jitter = next(waits, None) if is_rate_limit(error) else None
    if jitter is None:
        raise error
    return float(getattr(error, "retry_after", 0.0) or 0.0) + jitter
