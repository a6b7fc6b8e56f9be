"""The results of a run, as they are kept in results.json; the report and the picture are made from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.machine import Machine  # noqa: TC001  # msgspec reads the annotations
from bench.measuring import Measurement, Role, Target, floor_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class RowResult(msgspec.Struct, frozen=True):
    """What one row has given. `absent`: who could not be measured, and why; `apart`: when it was measured, and beside
    what load, where that was not with the other rows."""

    name: str
    title: str
    method: str
    rounds: int
    shown: str
    targets: tuple[Target, ...]
    measurements: tuple[Measurement, ...]
    absent: tuple[str, ...] = ()
    if_missed: str = ""
    apart: str = ""

    def ratio(self, measurement: Measurement) -> Measurement | None:
        """A measurement's ratios to its floor; None where there is none, or it is zero."""
        floor = floor_of(measurement, self.measurements)
        ratios = None if floor is None else measurement.over(floor)
        return ratios if ratios is not None and ratios.values else None

    def verdicts(self) -> Iterator[Verdict]:
        """Each target with what each of our subjects has reached."""
        for target in self.targets:
            for measurement in self.measurements:
                if measurement.role is Role.OURS and (measurement.figure, measurement.case) == (
                    target.figure,
                    target.case,
                ):
                    judged = self.ratio(measurement) if target.of_floor else measurement
                    if judged is not None:
                        yield Verdict(target, judged, target.is_reached(judged.median))


class Verdict(NamedTuple):
    """A target, the figure or ratio that it is about, and whether its median reaches it."""

    target: Target
    measured: Measurement
    reached: bool


class Results(msgspec.Struct, frozen=True):
    """One run. `started`: ISO 8601, UTC; `minutes`: how long it took."""

    started: str
    minutes: float
    machine: Machine
    rows: tuple[RowResult, ...]


def merged(kept: Results, new: Results) -> Results:
    """What was kept, with the rows of another run in their places or at the end; each of these says so."""
    before, after = new.machine.load
    apart = (
        f"Measured apart from the rest ({new.started}), beside other work: a load average of {before:g} before and "
        f"{after:g} at the end, on {new.machine.cores} cores."
    )
    fresh = {row.name: msgspec.structs.replace(row, apart=apart) for row in new.rows}
    rows = tuple(fresh.pop(row.name, row) for row in kept.rows) + tuple(fresh.values())
    return msgspec.structs.replace(kept, rows=rows)
