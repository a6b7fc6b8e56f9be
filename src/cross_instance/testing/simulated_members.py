"""Who takes part in a simulation, what they do, and what is counted of it. All times are µs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cross_instance.rules.operations import FOREVER, SECOND, AccountSpec, Acquire, Costs, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cross_instance.testing.simulated_account import Call

ONE_REQUEST = Costs()


@dataclass(frozen=True)
class Load:
    """What an instance does: `parallel` tasks at once, each one request after another, `total` in all.

    `duration`, `pause` (between a task's requests) and `delay` (from grant to send) are drawn evenly from their
    ranges. `usage` is what a request really costs, `costs` what it is estimated at.
    """

    parallel: int = 1
    total: int | None = None
    duration: tuple[int, int] = (SECOND, SECOND)
    pause: tuple[int, int] = (0, 0)
    delay: tuple[int, int] = (0, 0)
    costs: Costs = ONE_REQUEST
    usage: Costs | None = None
    priorities: tuple[Priority, ...] = (Priority.NORMAL,)
    timeout: int = FOREVER
    account: str = "account"
    model: str = "model"


@dataclass(eq=False)
class Member:
    """One simulated process."""

    name: str
    specs: Mapping[str, AccountSpec]
    load: Load
    weight: int = 1
    reserve: int = 0
    incarnation: int = 0
    revision: int = 0
    patterns: tuple[str, ...] = ()
    seq: int = 0
    joins: int = 0
    started: int = 0
    granted: int = 0
    alive: bool = True
    stopped: bool = False
    waiting: dict[int, Acquire] = field(default_factory=dict)
    calls: set[Call] = field(default_factory=set)
    missed: list[Callable[[], None]] = field(default_factory=list)


@dataclass
class Report:
    """What a simulation counted: `looks` are repeated acquires, `fenced` how often an instance had to join anew."""

    granted: int = 0
    finished: int = 0
    refused: int = 0
    looks: int = 0
    operations: int = 0
    fenced: int = 0
    waited: int = 0
    longest_wait: int = 0
