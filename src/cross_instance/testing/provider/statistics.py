"""What the test provider has seen: totals, a series of seconds, per client and per account, and the last requests.

1. A request is counted once when it arrives and ends in exactly one `Outcome`.
2. API keys are never kept here: an account is "openai/1", in the order in which keys first came.
3. Memory does not grow with the number of requests: latencies are counted at three significant digits, the journal has
   a fixed length; only the series grows, by one entry per second.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from itertools import accumulate
from typing import Literal, get_args

import msgspec

from cross_instance.testing.provider.config import SECOND

Outcome = Literal["served", "rejected", "failed", "invalid", "abandoned"]
"""Served as asked; refused (429); an error or a fault in the delivery; not a proper request; the client hung up."""


class Data(msgspec.Struct, frozen=True, rename="camel"):
    """Base of the figures: snake_case in Python, camelCase in JSON."""


class Latencies(Data, frozen=True):
    """Seconds from arrival to the last byte, of served requests."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class Tally(Data, frozen=True):
    """The figures of all requests, or of one client's or one account's. `accepted`: let in by the limits."""

    requests: int
    accepted: int
    served: int
    rejected: int
    failed: int
    invalid: int
    abandoned: int
    input_tokens: int
    output_tokens: int
    in_flight: int
    max_in_flight: int
    latencies: Latencies


class Second(Data, frozen=True):
    """One second of the series, `at` seconds since the start; `in_flight` is the highest reached in it."""

    at: int
    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    in_flight: int = 0


class Record(Data, frozen=True):
    """One request of the journal: `at` seconds since the start, `duration` seconds."""

    number: int
    at: float
    duration: float
    provider: str
    model: str
    endpoint: str
    client: str
    account: str
    status: int
    outcome: Outcome
    input_tokens: int
    output_tokens: int


class Statistics(Data, frozen=True):
    """Everything seen since the start, or since the last reset. `started_at`: Unix time; `elapsed`: seconds."""

    started_at: float
    elapsed: float
    total: Tally
    rejections: dict[str, int]
    clients: dict[str, Tally]
    accounts: dict[str, Tally]
    series: tuple[Second, ...]


class Visit(msgspec.Struct):
    """One request while it runs. `arrived` µs; `accepted` once the limits have let it in."""

    number: int
    arrived: int
    provider: str
    model: str
    endpoint: str
    client: str
    account: str
    accepted: bool = False
    status: int = 0
    outcome: Outcome = "abandoned"
    input_tokens: int = 0
    output_tokens: int = 0


class Recorder:
    """Counts visits; `now` is always an argument, in µs."""

    def __init__(self, journal: int, now: int) -> None:
        self._journal: deque[Record] = deque(maxlen=journal)
        self._number = 0
        self._total = _Counts()
        self._clients: dict[str, _Counts] = {}
        self._accounts: dict[str, _Counts] = {}
        self.reset(now)

    def reset(self, now: int) -> None:
        """Forget everything seen so far, except what still runs."""
        self._started = now
        self._started_at = time.time()
        self._rejections: Counter[str] = Counter()
        self._series: dict[int, Counter[str]] = {}
        self._journal.clear()
        self._total = self._total.afresh()
        for counts in (self._clients, self._accounts):
            running = {name: count.afresh() for name, count in counts.items() if count.in_flight}
            counts.clear()
            counts.update(running)

    def arrive(self, route: tuple[str, str, str], client: str, account: str, now: int) -> Visit:
        """A request has come; `route` is its provider, model and endpoint."""
        self._number += 1
        visit = Visit(self._number, now, *route, client, account)
        for counts in self._counts(visit):
            counts.requests += 1
        self._second(now)["requests"] += 1
        return visit

    def accept(self, visit: Visit, now: int) -> None:
        """The limits have let it in."""
        visit.accepted = True
        for counts in self._counts(visit):
            counts.accepted += 1
            counts.in_flight += 1
            counts.max_in_flight = max(counts.max_in_flight, counts.in_flight)
        second = self._second(now)
        second["accepted"] += 1
        second["in_flight"] = max(second["in_flight"], self._total.in_flight)

    def reject(self, cause: str) -> None:
        """It is refused with a 429; `cause` is the kind of the limit or of the fault."""
        self._rejections[cause] += 1

    def leave(self, visit: Visit, now: int) -> None:
        """It is over, in the way that its `outcome` says."""
        seconds = (now - visit.arrived) / SECOND
        for counts in self._counts(visit):
            counts.end(visit, seconds)
        if visit.outcome in ("rejected", "failed"):
            self._second(now)[visit.outcome] += 1
        fields = {name: getattr(visit, name) for name in Record.__struct_fields__ if name not in ("at", "duration")}
        self._journal.append(Record(at=(visit.arrived - self._started) / SECOND, duration=seconds, **fields))

    def journal(self) -> tuple[Record, ...]:
        """The last requests, in the order in which they ended."""
        return tuple(self._journal)

    def statistics(self, now: int) -> Statistics:
        """Everything seen so far."""
        elapsed = (now - self._started) / SECOND
        return Statistics(
            started_at=self._started_at,
            elapsed=elapsed,
            total=self._total.tally(),
            rejections=dict(self._rejections),
            clients={name: counts.tally() for name, counts in sorted(self._clients.items())},
            accounts={name: counts.tally() for name, counts in sorted(self._accounts.items())},
            series=tuple(Second(at=at, **self._series.get(at, Counter())) for at in range(math.ceil(elapsed))),
        )

    def _counts(self, visit: Visit) -> tuple[_Counts, _Counts, _Counts]:
        client = self._clients.get(visit.client) or self._clients.setdefault(visit.client, _Counts())
        account = self._accounts.get(visit.account) or self._accounts.setdefault(visit.account, _Counts())
        return self._total, client, account

    def _second(self, now: int) -> Counter[str]:
        return self._series.setdefault((now - self._started) // SECOND, Counter())


class _Counts:
    def __init__(self, in_flight: int = 0) -> None:
        self.requests = self.accepted = 0
        self.in_flight = self.max_in_flight = in_flight
        self._outcomes: Counter[str] = Counter()
        self._input_tokens = self._output_tokens = 0
        self._latencies: Counter[float] = Counter()
        self._seconds = self._longest = 0.0

    def afresh(self) -> _Counts:
        return _Counts(self.in_flight)

    def end(self, visit: Visit, seconds: float) -> None:
        self._outcomes[visit.outcome] += 1
        self._input_tokens += visit.input_tokens
        self._output_tokens += visit.output_tokens
        self.in_flight -= visit.accepted
        if visit.outcome == "served":
            self._latencies[float(f"{seconds:.3g}")] += 1
            self._seconds += seconds
            self._longest = max(self._longest, seconds)

    def tally(self) -> Tally:
        outcomes = {name: self._outcomes[name] for name in get_args(Outcome)}
        return Tally(
            requests=self.requests,
            accepted=self.accepted,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            in_flight=self.in_flight,
            max_in_flight=self.max_in_flight,
            latencies=self._summary(),
            **outcomes,
        )

    def _summary(self) -> Latencies:
        count = self._latencies.total()
        if not count:
            return Latencies()
        values = sorted(self._latencies.items())
        p50, p95, p99 = (_rank(values, math.ceil(count * part / 100)) for part in (50, 95, 99))
        return Latencies(count, self._seconds / count, p50, p95, p99, self._longest)


def _rank(values: list[tuple[float, int]], rank: int) -> float:
    """The value that stands at `rank` (from 1) in ordered values with their counts."""
    reached = accumulate(count for _, count in values)
    return next(value for (value, _), so_far in zip(values, reached, strict=True) if so_far >= rank)
