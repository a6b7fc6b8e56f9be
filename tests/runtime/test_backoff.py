from __future__ import annotations

import asyncio

import pytest

from cross_instance import RateLimitExceeded, retry_with_backoff
from cross_instance.retry import delays


class Flaky:
    """Meets a rate limit a few times; tells how long was slept meanwhile."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or limited(retry_after=2.0)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"

    async def later(self) -> str:
        return self()


def limited(retry_after: float) -> RateLimitExceeded:
    return RateLimitExceeded("busy", provider="acme", model="m-1", limit=None, retry_after=retry_after)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have slept, without sleeping; the random draws are 0.5."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("cross_instance.retry.time.sleep", waits.append)
    monkeypatch.setattr("cross_instance.retry.asyncio.sleep", sleep)
    monkeypatch.setattr("cross_instance.retry.random.random", lambda: 0.5)
    return waits


def test_each_wait_is_what_the_error_asks_for_and_a_growing_random_part(slept: list[float]) -> None:
    assert retry_with_backoff(Flaky(3)) == "done"
    assert slept == [2.5, 3.0, 4.0]


def test_a_coroutine_is_retried_likewise(slept: list[float]) -> None:
    flaky = Flaky(3)

    async def guide() -> str:
        return await retry_with_backoff(lambda: flaky.later())

    assert asyncio.run(guide()) == "done"
    assert slept == [2.5, 3.0, 4.0]
    assert flaky.calls == 4


def test_the_last_error_is_raised(slept: list[float]) -> None:
    flaky = Flaky(9)
    with pytest.raises(RateLimitExceeded):
        retry_with_backoff(flaky, retries=2)
    assert (flaky.calls, len(slept)) == (3, 2)
    with pytest.raises(RateLimitExceeded):
        asyncio.run(waiting_for(Flaky(9)))


async def waiting_for(flaky: Flaky) -> str:
    return await retry_with_backoff(flaky.later, retries=2)


def test_another_error_is_raised_at_once(slept: list[float]) -> None:
    with pytest.raises(OSError, match="cable"):
        retry_with_backoff(Flaky(1, OSError("cable")))
    assert slept == []


def test_an_sdks_429_counts_too(slept: list[float]) -> None:
    error = OSError("429")
    error.status_code = 429  # type: ignore[attr-defined]  # as the SDKs' errors have it
    assert retry_with_backoff(Flaky(1, error)) == "done"
    assert slept == [0.5]


def test_the_random_part_doubles_up_to_a_cap(slept: list[float]) -> None:
    assert list(delays(5, 2.0, 10.0)) == [1.0, 2.0, 4.0, 5.0, 5.0]
