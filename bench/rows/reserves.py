"""Priorities and reserves: a critical worker beside eight that want more than there is, as in the user guide.

The scene is the demo's: 600 requests per minute, two seconds' worth at once, answers after 0.6 to 1.0 s.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.crew import helper, together
from bench.measuring import Role, Row, Subject, Target, quantile
from bench.reserved import CRITICAL, RESERVE, SETTINGS, serve_background, serve_critical, wanted
from bench.rows.goodput import UNDISTURBED_P95
from cross_instance.cli.demo.scene import BURST, FASTEST, REQUESTS_PER_MINUTE, SLOWEST, ceiling
from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer, Uniform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale

BUSY, IDLE = "it makes 100 requests a minute", "it makes none"
CREWS = (tuple(f"background-{number}" for number in range(4)), tuple(f"background-{number}" for number in range(4, 8)))
"""Two processes of four instances each: a ninth part of the account would be 67 requests per minute."""


class Way(NamedTuple):
    """How the critical worker is told from the others."""

    name: str
    role: Role
    settings: dict[str, Any]


WAYS = (Way("priority 10, reserve 100", Role.OURS, SETTINGS), Way("one of nine equals", Role.PEER, {}))


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers, seconds = count(), scale.goodput_seconds
    measure = partial(_measure, folder, numbers, seconds)
    yield [
        Subject("what the account and the latency allow", Role.FLOOR, partial(_floor, seconds, busy=True), BUSY),
        *(Subject(name, role, partial(measure, settings, busy=True), BUSY) for name, role, settings in WAYS),
        Subject("what the account allows", Role.FLOOR, partial(_floor, seconds, busy=False), IDLE),
        Subject(WAYS[0].name, Role.OURS, partial(measure, SETTINGS, busy=False), IDLE),
    ]


def _floor(seconds: float, *, busy: bool) -> Figures:
    figures = {"accepted/min": ceiling(seconds) * 60 / seconds, "429s": 0.0}
    if not busy:
        return figures
    return figures | {"critical/min": wanted(seconds) * 60 / seconds, "critical p95 s": UNDISTURBED_P95}


def _measure(folder: Path, numbers: Iterator[int], seconds: float, settings: dict[str, Any], *, busy: bool) -> Figures:
    own = folder / str(next(numbers))
    own.mkdir()
    limit = Limit("requests", REQUESTS_PER_MINUTE, burst=BURST)
    config = ProviderConfig(limits=(limit,), latency=Uniform(FASTEST, SLOWEST), share_accounts=True)
    with ProviderServer(config) as server, ExitStack() as stack:
        url = server.base_url("openai")
        crews = [helper(serve_background, own, url, names, settings) for names in CREWS]
        if busy:
            crews.insert(0, helper(serve_critical, own, url, settings))
        at_work = [stack.enter_context(crew)[1] for crew in crews]
        calls = together(at_work, seconds, server.reset_statistics)
        seen = server.statistics()
    figures = {"accepted/min": seen.total.accepted * 60 / seconds, "429s": float(seen.total.rejected)}
    if not busy:
        return figures
    mine = seen.clients.get(CRITICAL)
    accepted = 0 if mine is None else mine.accepted
    return figures | {"critical/min": accepted * 60 / seconds, "critical p95 s": quantile(sorted(calls[0]), 0.95)}


ROW = Row(
    name="reserves",
    title="A critical worker beside eight that want more than there is",
    method=(
        "A provider that allows 600 requests per minute, two seconds' worth at once, and answers after 0.6 to 1.0 s, "
        "serves nine instances in three processes for 30 s. Eight have ten calls each under way or waiting. The "
        f"ninth makes a call every 0.6 s, {RESERVE} a minute, whether or not earlier ones were answered: with the "
        "user guide's priority and reserve, and as one of nine equals. Shown are the requests let in per minute, of "
        "all and of the critical worker; the 429s; and the 95th percentile of the time its calls take, waiting "
        "included (a call unfinished at the end counts with its age, where that is above 1.0 s). In the second case "
        "it makes none: its reserve is the others'."
    ),
    rounds=3,
    targets=(
        Target("critical/min", "at least", 0.98, of_floor=True, case=BUSY),
        Target("critical p95 s", "at most", round(UNDISTURBED_P95 + 0.3, 2), case=BUSY),
        Target("accepted/min", "at least", 0.99, of_floor=True, case=BUSY),
        Target("accepted/min", "at least", 0.99, of_floor=True, case=IDLE),
        Target("429s", "at most", 0, case=BUSY),
        Target("429s", "at most", 0, case=IDLE),
    ),
    shown="critical p95 s",
    subjects=subjects,
)
