"""What reaches the provider: four processes, one account, four ways to share it and ours.

The scene is the demo's: 600 requests per minute, two seconds' worth at once, answers after 0.6 to 1.0 s; one process
with 40 tasks under way, three with one.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench.crew import helper, together
from bench.measuring import Role, Row, Subject, Target, quantile
from bench.servers import ABSENT, IS_INSTALLED, serving
from bench.strategies import ACROSS_MACHINES, STRATEGIES, serve_agent
from cross_instance.cli.demo.scene import BURST, FASTEST, PARTS, REQUESTS_PER_MINUTE, SLOWEST, ceiling
from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer, Uniform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.strategies import Strategy

UNDISTURBED_P95 = FASTEST + 0.95 * (SLOWEST - FASTEST)
"""Seconds: the provider's own latency."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    yield _subjects(STRATEGIES, folder, scale)


@contextmanager
def across_machines(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    if not IS_INSTALLED:
        yield []
        return
    with serving(folder):
        yield _subjects((ACROSS_MACHINES,), folder, scale)


def _subjects(strategies: Iterable[Strategy], folder: Path, scale: Scale) -> list[Subject]:
    numbers = count()
    return [
        Subject(strategy.name, strategy.role, partial(_run, strategy, folder, numbers, scale.goodput_seconds))
        for strategy in strategies
        if strategy.is_installed
    ] + [Subject("the account's ceiling", Role.FLOOR, partial(_ceiling, scale.goodput_seconds))]


def _ceiling(seconds: float) -> Figures:
    return {"accepted/min": ceiling(seconds) * 60 / seconds, "429s": 0, "light p95 s": UNDISTURBED_P95}


def _run(strategy: Strategy, folder: Path, numbers: Iterator[int], seconds: float) -> Figures:
    own = folder / str(next(numbers))
    own.mkdir()
    limit = Limit("requests", REQUESTS_PER_MINUTE, burst=BURST)
    latency = Uniform(FASTEST, SLOWEST)
    config = ProviderConfig(
        limits=(limit,), latency=latency, share_accounts=True, charge_failed=False, retry_after=strategy.told
    )
    with ProviderServer(config) as server, ExitStack() as stack:
        url = server.base_url("openai")
        agents = [
            stack.enter_context(helper(serve_agent, strategy.open, own, url, part.name, part.tasks))[1]
            for part in PARTS
        ]
        calls = together(agents, seconds, server.reset_statistics)
        total = server.statistics().total
    light = sorted(call for part, spent in zip(PARTS, calls, strict=True) if part.is_light for call in spent)
    return {
        "accepted/min": total.accepted * 60 / seconds,
        "429s": total.rejected,
        "light p95 s": quantile(light, 0.95),
    }


ROW = Row(
    name="goodput",
    title="600 requests/min, four processes with 40, 1, 1 and 1 tasks",
    method=(
        "A provider that allows 600 requests per minute, two seconds' worth at once, and answers after 0.6 to 1.0 s, "
        "serves four processes for 30 s. Each uses the OpenAI SDK with its own retries; Retry-After tells the very "
        "millisecond, and refused requests cost nothing, which is kinder than OpenAI. Shown are the requests that were "
        "let in, per minute; the 429s; and the 95th percentile of a call's time in the three light processes, waiting "
        "and retries included (a call unfinished at the end counts with its age, where that is above 1.0 s). The floor "
        "is what the provider's limit and latency allow."
    ),
    rounds=3,
    targets=(
        Target("accepted/min", "at least", 0.99, of_floor=True),
        Target("429s", "at most", 0),
        Target("light p95 s", "at most", round(UNDISTURBED_P95 + 0.3, 2)),
    ),
    shown="429s",
    subjects=subjects,
)
ACROSS = Row(
    name="redis-goodput",
    title="The same across machines, on a Redis server",
    method=(
        "The four processes of the row above, each with a folder of its own, as on a machine of its own: they share "
        "nothing but a server. Missing from the ceiling are one request, which is kept back as the guard, and ten for "
        "each second from the start until the first permit."
    ),
    rounds=3,
    targets=(
        Target("accepted/min", "at least", 0.985, of_floor=True),
        Target("429s", "at most", 0),
        Target("light p95 s", "at most", round(UNDISTURBED_P95 + 0.4, 2)),
    ),
    shown="accepted/min",
    subjects=across_machines,
    absent=ABSENT,
    if_missed=(
        "beside other work four processes take 0.25 to 0.5 s for the SDK's first call alone (ours, from asking to the "
        "first permit: 0.08 s), and one that gets no processor for half a second between grant and sending has five "
        "requests kept back as the guard, until later ones were faster. 429s come where that is longer than the tenth "
        "of a second that is assumed before it has been measured. At a load average of 10, one run of 30 s had 315 of "
        "320 on Redis and 309 in a folder."
    ),
)
