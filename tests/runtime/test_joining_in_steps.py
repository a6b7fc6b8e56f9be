"""A dead namesake with very many waiters is removed in steps; who takes its id joins all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runtime.doubles import Timeline, one_at_a_time

from cross_instance import Runtime
from cross_instance.membership.presence import instances_folder, machine_of
from cross_instance.rules.operations import AccountSpec, Acquire, Configure, Join, Kind, LimitSpec, Removing, Snapshot
from cross_instance.rules.registry import STEP

if TYPE_CHECKING:
    from pathlib import Path


def test_joining_goes_on_until_the_dead_namesake_is_gone(tmp_path: Path) -> None:
    timeline, settings = Timeline(), one_at_a_time(tmp_path)
    runtime = Runtime("one", store=timeline, settings=settings)
    machine = machine_of(instances_folder(settings.runtime_dir))
    dead = timeline.run(Join(instance_id="one", nonce="x", pid=1, machine=machine, host="here")).incarnation
    spec = AccountSpec((LimitSpec(Kind.CONCURRENCY, 1, 0, 0),))
    revision = timeline.run(Configure(dead, "acme", spec)).revision
    for seq in range(2 * STEP + 1):
        timeline.run(Acquire(dead, seq, "acme", revision=revision))
    with runtime:
        (living,) = timeline.run(Snapshot()).instances
        assert living.incarnation == runtime.incarnation > dead
    joins = [(op.nonce, type(result)) for op, result in timeline.ops if isinstance(op, Join)][1:]
    assert [kind for _, kind in joins].count(Removing) == 2
    assert len({nonce for nonce, _ in joins}) == 1, "it is one Join, sent again"
