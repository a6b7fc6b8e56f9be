"""What a figure is, and how it is come by.

1. Each subject of a row is measured once per round, one after the other; the first of a round is the second of the
   round before, so that nobody always follows the same neighbour.
2. What is shown is the median over the rounds, with the smallest and the largest.
3. A ratio is taken within each round, to the floor of the same case, and only then is its median taken: what slows
   the machine for a while slows both.
4. Nothing is thrown away: no outliers, no warm-up rounds that do not count.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Figures = Mapping[str, float]
    """Figure with its unit, such as "p50 µs", to its value."""

    Opener = Callable[["Scale", Path], AbstractContextManager[Sequence["Subject"]]]


class Role(StrEnum):
    """What a subject is there for."""

    FLOOR = "floor"
    OURS = "ours"
    PEER = "peer"
    UNCOORDINATED = "uncoordinated"
    """A peer that counts in each process by itself: what a permit costs where nothing is shared."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that is measured; `run` measures it once. Subjects of one `case` are compared."""

    name: str
    role: Role
    run: Callable[[], Figures]
    case: str = ""


class Measurement(msgspec.Struct, frozen=True):
    """One figure of one subject: a value per round."""

    case: str
    subject: str
    role: Role
    figure: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def over(self, floor: Measurement) -> Measurement:
        """The ratios to a floor, round by round. A floor of zero gives no ratio in its round."""
        pairs = zip(self.values, floor.values, strict=True)
        ratios = tuple(mine / theirs for mine, theirs in pairs if theirs)
        return msgspec.structs.replace(self, values=ratios)


class Target(msgspec.Struct, frozen=True):
    """What a figure of ours must reach: `bound` units or, `of_floor`, times the floor of the same round."""

    figure: str
    relation: Literal["at most", "at least"]
    bound: float
    of_floor: bool = False
    case: str = ""

    def is_reached(self, value: float) -> bool:
        return value <= self.bound if self.relation == "at most" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Scale:
    """How much one round of each row does."""

    samples: int = 3_000
    """Permits in a row by one process."""
    seconds: float = 1.0
    """For which processes compete."""
    waiters: int = 10_000
    queue_samples: int = 500
    wakes: int = 40
    kills: int = 3
    goodput_seconds: float = 30.0
    hidden_seconds: float = 90.0
    """In which a limit has to be found."""
    tasks: int = 3_000
    """Tasks that are submitted one by one, and again together."""
    starts: int = 40
    """Tasks whose start is timed."""
    bulk_tasks: int = 100_000
    patience: float = 120.0
    """Seconds after which a task whose worker was killed counts as one that nobody begins anew."""
    storm_tasks: int = 10_000
    storm_seconds: float = 60.0
    uneven_seconds: float = 40.0
    """Of work that four processes share."""
    fleets: tuple[int, ...] = (50, 200)
    fleet_seconds: float = 5.0
    """For which a fleet is measured at work."""
    idle_seconds: float = 15.0
    """For which it is measured idle: the time between two heartbeats, so that each process beats once."""


FULL = Scale()
QUICK = Scale(
    samples=1_000,
    seconds=0.4,
    waiters=10_000,
    queue_samples=200,
    wakes=15,
    kills=1,
    goodput_seconds=8.0,
    hidden_seconds=30.0,
    tasks=500,
    starts=10,
    bulk_tasks=10_000,
    patience=10.0,
    storm_tasks=1_000,
    storm_seconds=6.0,
    uneven_seconds=12.0,
    fleets=(10,),
    fleet_seconds=2.0,
    idle_seconds=2.0,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the target table. `rounds`: how many are made unless told otherwise."""

    name: str
    title: str
    method: str
    rounds: int
    targets: tuple[Target, ...]
    shown: str
    """The figure that the picture shows."""
    subjects: Opener
    """Opens the subjects in an empty folder."""
    absent: tuple[str, ...] = ()
    """Who cannot be measured here, and why."""
    if_missed: str = ""
    """Why a target may be missed, and what it would take; told where one is."""


class Installable(Protocol):
    """Something that can be measured where its package is installed."""

    @property
    def is_installed(self) -> bool: ...


ItemT = TypeVar("ItemT", bound=Installable)


def installed(items: Sequence[ItemT], measured: Callable[[ItemT, Scale, Path, ExitStack], Subject]) -> Opener:
    """Opens a subject for each item that is installed, in an empty folder of its own."""

    @contextmanager
    def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
        with ExitStack() as stack:
            yield [
                measured(item, scale, _made(folder / str(place)), stack)
                for place, item in enumerate(items)
                if item.is_installed
            ]

    return subjects


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def interleave(subjects: Sequence[Subject], rounds: int, tell: Callable[[str], object]) -> tuple[Measurement, ...]:
    """Measure all subjects in rounds; `tell` hears what is measured next."""
    seen: dict[tuple[int, str], list[float]] = {}
    for number in range(rounds):
        for index in _order(len(subjects), number):
            subject = subjects[index]
            tell(f"round {number + 1} of {rounds}: {subject.name} {subject.case}".rstrip())
            for figure, value in subject.run().items():
                seen.setdefault((index, figure), []).append(value)
    return tuple(_measurements(subjects, seen))


def _order(count: int, number: int) -> Iterator[int]:
    return ((place + number) % count for place in range(count))


def _measurements(subjects: Sequence[Subject], seen: dict[tuple[int, str], list[float]]) -> Iterator[Measurement]:
    for (index, figure), values in sorted(seen.items(), key=lambda item: item[0][0]):
        subject = subjects[index]
        yield Measurement(subject.case, subject.name, subject.role, figure, tuple(values))


def floor_of(measurement: Measurement, among: Sequence[Measurement]) -> Measurement | None:
    """The floor that a measurement is compared with."""
    for other in among:
        if other.role is Role.FLOOR and (other.case, other.figure) == (measurement.case, measurement.figure):
            return None if other is measurement else other
    return None


def quantile(ordered: Sequence[int], part: float) -> int:
    """The value that `part` of the ordered values do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def latencies(durations: Sequence[int]) -> dict[str, float]:
    """The figures of durations in nanoseconds."""
    ordered = sorted(durations)
    return {"p50 µs": quantile(ordered, 0.5) / 1e3, "p99 µs": quantile(ordered, 0.99) / 1e3}
