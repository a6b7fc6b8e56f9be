"""What is run, and what comes out of each run: one line of results.csv.

1. A limit changes a quarter of an hour after the start, when everything is known; the instant differs from seed to
   seed, and with it the place in the provider's window.
2. However many clients there are, ours is one record in the store, so their number is told only where peers, who know
   nothing of each other, are run. A peer may have twice the calls in flight that the limit needs.
3. Runs know nothing of each other, so each core takes the next one; the lines stay in order.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from bench.learning.figures import reached, refused, used
from bench.learning.ours import OneModel, Ours
from bench.learning.peers import PEERS, Told
from bench.learning.provider import SECOND, SHAPES, Provider, Shape
from bench.learning.simulation import Controller, Log, Scene, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIMITS = (60, 300, 3_000)
LAGS = (0.0, 0.1, 1.0)
KNOWN = 600
"""Seconds after which the steady state is measured."""
CHANGE = 900
AFTER = 420
SLOTS = (20, 100)
DAY = 600
"""Seconds for which the limit stays, where it differs by time of day; a day is shortened, its changes are not."""
OUTAGE = 300
MODELS = ("large", "small", "tiny")
TOLD = "told at once"


class Line(msgspec.Struct, frozen=True):
    """One line. `after`: seconds until 95 % (after a doubling), or 90 % with few 429s (after anything else) are
    reached, of several changes the longest; `burst`: the 429s before 600 s, or in the two minutes after a change. None:
    never."""

    scene: str
    who: str
    shape: str
    limit: int
    lag: float
    seed: int
    after: int | None
    used: float
    refused: float
    burst: int


def lines(*, quick: bool) -> Iterator[Line]:
    """All runs."""
    with ProcessPoolExecutor() as processes:
        for found in processes.map(_run, _jobs(quick=quick)):
            yield from found


def _run(job: tuple[Callable[..., Iterator[Line]], tuple[object, ...]]) -> list[Line]:
    run_it, what = job
    return list(run_it(*what))


def _jobs(*, quick: bool) -> Iterator[tuple[Callable[..., Iterator[Line]], tuple[object, ...]]]:
    seeds = (1,) if quick else (1, 2, 3)
    limits, lags = ((300,), (0.1,)) if quick else (LIMITS, LAGS)
    for limit in limits:
        for lag in lags:
            for shape in SHAPES:
                for seed in seeds if (limit, lag) == (300, 0.1) else seeds[:1]:
                    yield _with_changes, (_turned(shape, seed), limit, lag, seed)
    for shape in SHAPES:
        yield _others, (shape,)
    for slots in SLOTS:
        yield _slots, (slots,)
    for who in PEERS:
        for shape in SHAPES:
            yield _peers, (who, shape)


def _others(shape: Shape) -> Iterator[Line]:
    for demand in (0.5, 0.1):
        yield _steady(shape, Scene(300, demand=300 * demand), f"demand {demand:.0%}", ours, "ours")
    yield _steady(shape, Scene(300, seconds=3_600), "prediction on", predicting, "ours")
    yield _steady(shape, Scene(300, seconds=3_600), "prediction off", ours, "ours")
    yield _models(shape, "three models behind one limit, one record", [ours(1)] * len(MODELS))
    account = Ours(models=MODELS)
    each = [OneModel(account, model) for model in MODELS]
    yield _models(shape, "three models behind one limit, a record each", each)
    yield _day(shape)
    yield _outage(shape)


def _peers(who: str, shape: Shape) -> Iterator[Line]:
    make = PEERS[who]
    for name, clients in (("peers, one for all", 1), ("peers, each of 8 clients its own", 8)):
        workers = 2 * 300 * 8 // 60 // clients
        yield _steady(shape, Scene(300), name, _peer(make, workers), who, clients)


def ours(seed: int) -> Ours:
    return Ours(seed=seed)


def predicting(seed: int) -> Ours:
    return Ours(seed=seed, predicts=True)


def _peer(make: Callable[[int], object], workers: int) -> Callable[[int], object]:
    return lambda _: make(workers)


def _turned(shape: Shape, seed: int) -> Shape:
    return replace(shape, phase=(0.4 + 0.37 * seed) % 1)


def run(shape: Shape, scene: Scene, make: Callable[[int], object], clients: int = 1) -> tuple[Log, Sequence[object]]:
    """One simulation, with a controller for each client."""
    controllers = [make(scene.seed + number) for number in range(clients)]
    provider = Provider(shape, scene.limit, scene.slots, scene.outages)
    return Simulation(scene, provider, controllers).run(), controllers  # type: ignore[arg-type]


def _steady(shape: Shape, scene: Scene, name: str, make: Callable[[int], object], who: str, clients: int = 1) -> Line:
    log, _ = run(shape, scene, make, clients)
    limit = scene.demand or scene.limit
    share = 0.95 if scene.demand is None else 0.8
    return _line(name, who, shape, scene, reached(log, limit, share), log, limit)


def _line(name: str, who: str, shape: Shape, scene: Scene, after: int | None, log: Log, limit: float) -> Line:
    return Line(
        name,
        who,
        shape.name,
        int(scene.limit),
        scene.lag,
        scene.seed,
        after,
        round(used(log, limit, KNOWN), 4),
        round(refused(log, KNOWN), 5),
        sum(log.rejected[:KNOWN]),
    )


def _with_changes(shape: Shape, limit: int, lag: float, seed: int) -> Iterator[Line]:
    yield _steady(shape, Scene(limit, lag=lag, seed=seed), "steady", ours, "ours")
    at = CHANGE + 13 * seed
    for name, share, wanted, most_rejected in (("halved", 0.5, 0.9, 0.05), ("doubled", 2.0, 0.95, 1.0)):
        scene = Scene(limit, at + AFTER, lag, seed=seed, changes=((at, limit * share),))
        limits = ((0, float(limit)), *scene.changes)
        for who, make in (("ours", ours), (TOLD, lambda _, limits=limits: Told(limits))):
            log, _ = run(shape, scene, make)
            line = _line(name, who, shape, scene, reached(log, limit * share, wanted, at, most_rejected), log, limit)
            yield msgspec.structs.replace(
                line,
                used=round(used(log, limit * share, at), 4),
                refused=round(refused(log, at), 5),
                burst=sum(log.rejected[at : at + 120]),
            )


def _models(shape: Shape, name: str, models: Sequence[Controller]) -> Line:
    scene = Scene(300)
    log = Simulation(scene, Provider(shape, scene.limit), models).run()
    return _line(name, "ours", shape, scene, reached(log, scene.limit, 0.95), log, scene.limit)


def _day(shape: Shape) -> Line:
    changes = tuple((DAY * number, 150.0 if number % 2 else 300.0) for number in range(1, 6))
    scene = Scene(300, DAY * 6, changes=changes)
    log, _ = run(shape, scene, ours)
    times = [_after_change(log, at, limit, fell=limit < scene.limit) for at, limit in changes]
    longest = None if None in times else max(time for time in times if time is not None)
    return _line("time of day", "ours", shape, scene, longest, log, 225 - 15)


def _after_change(log: Log, at: int, limit: float, *, fell: bool) -> int | None:
    part = Log(log.accepted[: at + DAY], log.rejected[: at + DAY])
    return reached(part, limit, 0.9, at, 0.05) if fell else reached(part, limit, 0.95, at)


def _outage(shape: Shape) -> Line:
    scene = Scene(300, outages=((CHANGE * SECOND, (CHANGE + OUTAGE) * SECOND),))
    log, _ = run(shape, scene, ours)
    end = CHANGE + OUTAGE
    line = _line("outage", "ours", shape, scene, reached(log, 300, 0.9, end, 0.05), log, 300)
    return msgspec.structs.replace(line, used=round(used(log, 300, end), 4), burst=sum(log.rejected[CHANGE : end + 60]))


def _slots(slots: int) -> Iterator[Line]:
    """A hidden limit of concurrency: what it gives per minute follows from the latency, which includes the delay."""
    shape = replace(SHAPES[0], name=f"{slots} slots")
    for lag in (0.1, 1.0):
        for name, factor in (("steady", 1.0), ("halved", 0.5), ("doubled", 2.0)):
            at = CHANGE if factor != 1 else 0
            scene = Scene(1e5, CHANGE + 2 * AFTER, lag, slots=slots, resized=((at, int(slots * factor)),) if at else ())
            log, _ = run(shape, scene, ours)
            limit = slots * factor * 60 / (scene.latency + lag)
            after = reached(log, limit, 0.9 if factor == 0.5 else 0.95, at, 0.05 if factor == 0.5 else 1.0)
            line = _line(f"slots {name}", "ours", shape, scene, after, log, limit)
            start = at or KNOWN
            yield msgspec.structs.replace(
                line,
                limit=int(slots * factor),
                used=round(used(log, limit, start), 4),
                refused=round(refused(log, start), 5),
                burst=sum(log.rejected[at : at + 120]),
            )
