"""What an outage leaves behind: pauses hold for everyone, debts are paid, waiters go on, and it ends when over.

Time is the model's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.runtime.cables import AsyncCable, Cable
from tests.runtime.doubles import AsyncTimeline, settings_in
from tests.runtime.nets import Net, admitted, beat_by_hand, mend, pulse_of, rest

from cross_instance import AsyncRuntime, RateLimitExceeded, Runtime, StoreUnavailable, events as kinds
from cross_instance.degraded.outage import Outage, Sight
from cross_instance.rules.operations import SECOND, Acquire, Cancel, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = {"acme": {"requestsPerMinute": 240, "burst": 40}}
SLOTS = {"acme": {"requestsPerMinute": 60_000, "concurrency": 2}}


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(tmp_path, stack)


def one_second(runtime: Runtime) -> None:
    """Have the heartbeat thread's work done as often as it does it in a second."""
    pulse = pulse_of(runtime)
    for _ in range(4):
        pulse._safely(pulse.tick)
        pulse._receive(0.0)
        pulse._safely(pulse.flush)


def told(runtime: Runtime) -> list[str]:
    return [event.kind for event in runtime._membership.events.recent if event.kind.startswith("store-")]


def refused(runtime: Runtime, retry_after: str = "20") -> None:
    with runtime.permit("acme", "m-1", timeout=0) as permit:
        permit.settle(status=429, headers={"retry-after": retry_after})


def pauses_for(net: Net) -> int:
    """How long the account is paused yet, µs."""
    return net.node().paused_until - net.timeline.now()


def one_of_two_cut_off(net: Net, seconds: float) -> tuple[Runtime, Cable, Runtime]:
    """An instance that has been out of the store's reach for so long, with its cable; and another beside it."""
    runtime, cable = net.join("one", RATE)
    other, _ = net.join("two", RATE)
    net.look(runtime)
    cable.cut = True
    rest(net, seconds)
    return runtime, cable, other


# --- pauses --------------------------------------------------------------------------------------------------------


def test_a_pause_heard_of_meanwhile_holds_for_everyone_as_long_as_it_was_said(net: Net) -> None:
    runtime, cable, other = one_of_two_cut_off(net, 5.0)
    refused(runtime)
    rest(net, 8.0)
    mend(runtime, cable)
    assert pauses_for(net) == pytest.approx(12 * SECOND, abs=SECOND // 100)
    assert admitted(net, other, 11.9) == admitted(net, runtime, 0.05) == 0
    assert admitted(net, other, 5.0) > 0


def test_a_pause_is_told_although_the_call_could_not_be_charged(net: Net) -> None:
    runtime, cable, other = one_of_two_cut_off(net, 5.0)
    refused(runtime)
    assert admitted(net, other, 0.05) > 0
    assert net.level() == 0
    mend(runtime, cable)
    assert pauses_for(net) > 19 * SECOND


def test_a_call_that_could_not_be_charged_and_ends_later_pauses_too(net: Net) -> None:
    runtime, cable, other = one_of_two_cut_off(net, 5.0)
    under_way = runtime.permit("acme", "m-1", timeout=0).acquire()
    assert admitted(net, other, 0.05) > 0
    mend(runtime, cable)
    assert not runtime._membership.fallback.loans
    under_way.settle(status=429, headers={"retry-after": "20"})
    under_way.close()
    one_second(runtime)
    assert pauses_for(net) > 19 * SECOND


def test_a_pause_is_told_as_soon_as_a_slot_is_free(net: Net) -> None:
    runtime, cable = net.join("one", SLOTS)
    other, _ = net.join("two", SLOTS)
    net.look(runtime)
    cable.cut = True
    rest(net, 1.0)
    refused(runtime)
    held = [other.permit("acme", "m-1").acquire() for _ in range(2)]
    mend(runtime, cable)
    assert told(runtime)[-1] == kinds.STORE_RECOVERED
    assert not net.node().paused_until
    held.pop().close()
    one_second(runtime)
    assert pauses_for(net) > 19 * SECOND
    assert not runtime._membership.fallback.is_busy
    held.pop().close()


def test_the_end_of_a_permit_of_the_store_pauses_for_what_is_left_of_its_pause(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    permit = runtime.permit("acme", "m-1").acquire()
    cable.cut = True
    permit.settle(status=429, headers={"retry-after": "20"})
    permit.close()
    rest(net, 15.0)
    mend(runtime, cable)
    assert pauses_for(net) == pytest.approx(5 * SECOND, abs=SECOND // 100)


def test_many_refusals_of_one_outage_are_one_cut(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    rest(net, 5.0)
    held = [runtime.permit("acme", "m-1", timeout=0).acquire() for _ in range(4)]
    for permit in held:
        permit.settle(status=429)
        permit.close()
    mend(runtime, cable)
    assert pauses_for(net) <= 3 * SECOND, "2 s and a fifth, not 32 s"


# --- the end of an outage ------------------------------------------------------------------------------------------


def test_a_store_that_takes_heartbeats_and_no_requests_is_one_outage(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.lost = {Acquire}
    admitted(net, runtime, 0.05)
    count = 0
    for _ in range(8):
        count += admitted(net, runtime, 1.0)
        one_second(runtime)
    assert count == pytest.approx(32, abs=2), "the whole share, which nothing empties"
    assert told(runtime) == [kinds.STORE_DEGRADED]
    cable.lost = set()
    one_second(runtime)
    assert told(runtime) == [kinds.STORE_DEGRADED, kinds.STORE_RECOVERED]
    assert not runtime._membership.fallback.loans


def test_an_outage_without_permits_lasts_until_a_request_is_taken(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.lost = {Acquire}
    with pytest.raises(RateLimitExceeded):
        runtime.permit("acme", "m-1", timeout=0).acquire()
    one_second(runtime)
    assert told(runtime) == [kinds.STORE_DEGRADED]
    cable.lost = set()
    full = net.level()
    one_second(runtime)
    assert told(runtime) == [kinds.STORE_DEGRADED, kinds.STORE_RECOVERED]
    assert (net.level(), net.node().held) == (full, 0), "trying costs nothing"
    assert not net.timeline.unended()


def test_looks_that_fail_are_one_outage(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.lost = {Snapshot}
    for _ in range(5):
        assert runtime.status().world is None
        one_second(runtime)
    assert told(runtime) == [kinds.STORE_DEGRADED]
    cable.lost = set()
    one_second(runtime)
    assert runtime.status().degraded is None


def test_who_leaves_before_the_heartbeat_charges_what_it_had(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    rest(net, 30.0)
    cable.cut = True
    rest(net, 5.0)
    for _ in range(3):
        runtime.permit("acme", "m-1", timeout=0).acquire().close()
    refused(runtime)
    full = net.level()
    cable.cut = False
    runtime.close()
    assert net.level() <= full - 4
    assert pauses_for(net) > 19 * SECOND


def test_the_next_life_of_an_instance_has_its_own_share(net: Net, tmp_path: Path) -> None:
    """It joins while the one before is leaving, in the same process."""
    cable = Cable(net.timeline)
    first, second = (Runtime("one", store=cable, settings=settings_in(tmp_path, providers=RATE)) for _ in range(2))
    first.join()
    membership = first._membership
    assert second._membership is membership
    liveness = membership._liveness
    assert liveness is not None
    end = liveness.end

    def joined_before(*, remove: bool) -> None:
        liveness.end = end  # type: ignore[method-assign]
        joining = threading.Thread(target=second.join)
        joining.start()
        joining.join()
        end(remove=remove)

    liveness.end = joined_before  # type: ignore[method-assign]  # the moment between leaving and its end
    first.close()
    beat_by_hand(second)
    second.permit("acme", "m-1", timeout=0).acquire().close()
    net.look(second)
    cable.cut = True
    assert admitted(net, second, 5.0) > 0
    cable.cut = False
    second.close()


# --- waiters -------------------------------------------------------------------------------------------------------


def test_who_is_refused_by_the_share_leaves_the_real_queue_too(net: Net) -> None:
    runtime, cable = net.join("one", SLOTS)
    other, _ = net.join("two", SLOTS)
    net.look(runtime)
    held = [other.permit("acme", "m-1").acquire() for _ in range(2)]
    mine = Acquire(runtime.incarnation, 10**6, *runtime._membership.accounts.resolve("acme", "m-1", "default"), "m-1")
    store = runtime._membership.store
    assert type(store.run(mine)).__name__ == "Waiting"
    cable.cut = True
    assert type(store.run(msgspec.structs.replace(mine, timeout=0))).__name__ == "Refused"
    assert net.node().waiting == 1
    mend(runtime, cable)
    assert net.node().waiting == 0
    for permit in held:
        permit.close()


def test_requests_that_the_store_cannot_know_are_not_withdrawn_there(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    for _ in range(100):
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=0).acquire()
    rest(net, 61.0)
    for _ in range(100):
        with pytest.raises(StoreUnavailable):
            runtime.permit("acme", "m-1").acquire()
    mend(runtime, cable)
    assert sum(isinstance(op, Cancel) for op, _ in net.timeline.ops) <= 2, "the one that noticed, and the try"


def test_a_request_cancelled_under_way_is_withdrawn_although_the_store_is_lost(net: Net, tmp_path: Path) -> None:
    async def scenario() -> None:
        cable, timeline = Cable(net.timeline), AsyncTimeline(net.timeline)
        settings = settings_in(tmp_path, providers=SLOTS)
        async with AsyncRuntime(
            "one", store=cable, async_store=AsyncCable(cable, timeline), settings=settings
        ) as runtime:
            beat_by_hand(runtime)
            held = await runtime.permit("acme", "m-1").acquire()
            await runtime.status()

            async def interrupt(name: str) -> None:
                if name == "after Acquire":
                    cable.cut = True
                    with suppress(RateLimitExceeded):
                        await runtime.permit("acme", "m-1", timeout=0).acquire()
                    raise asyncio.CancelledError

            timeline.pause = interrupt
            with pytest.raises(asyncio.CancelledError):
                await runtime.permit("acme", "m-1").acquire()
            assert net.node().held == 2
            mend(runtime, cable)
            assert net.node().held == 1
            timeline.pause = lambda name: asyncio.sleep(0)
            await held.close()

    asyncio.run(scenario())


def test_waiters_learn_at_once_that_the_share_has_run_out(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    with pytest.raises(RateLimitExceeded):
        runtime.permit("acme", "m-1", timeout=0).acquire()
    fallback = runtime._membership.fallback
    outage = fallback.outage
    assert outage is not None
    waiter = (runtime.incarnation, 10**6)
    runtime._membership.waiters.add(waiter)
    rest(net, 61.0)
    fallback.note_stop()
    runtime._membership.waiters.discard(waiter)
    assert outage.mailboxes.wait(waiter, 0) is not None


class Leaver(tuple[int, int]):
    """A waiter that leaves while it is woken."""

    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        waiters.discard(self)
        return super().__iter__()


waiters: set[tuple[int, int]] = set()


def test_waiters_may_leave_while_they_are_woken() -> None:
    waiters.update(Leaver((1, seq)) for seq in range(3))
    outage = Outage(StoreUnavailable("cut"), lambda: 1, Sight(1, 0, 0, None, {}, (), {}))
    outage.wake(waiters)
    assert all(outage.mailboxes.wait((1, seq), 0) is not None for seq in range(3))


def test_the_look_at_the_share_does_not_go_through_waiters(net: Net) -> None:
    runtime, _ = net.join("one", RATE)
    net.timeline.ops.clear()
    runtime._membership.fallback.refresh()
    assert [op for op, _ in net.timeline.ops] == [Snapshot(counts=False)]


# --- the lock file -------------------------------------------------------------------------------------------------


def test_trouble_with_the_lock_file_stops_no_heartbeat(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    runtime, _ = net.join("one", RATE)
    folder = runtime.settings.runtime_dir / "instances"
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    before, pulse = runtime.incarnation, pulse_of(runtime)
    for _ in range(5):
        rest(net, 50.0)
        pulse._safely(pulse.beat)
    status = runtime.status()
    assert (runtime.incarnation, status.degraded) == (before, None)
    assert status.unseen is not None
    assert [event.kind for event in status.events] == [kinds.PRESENCE_UNUSABLE], "told once"
    assert not any(record.levelno > logging.WARNING for record in caplog.records)
    folder.unlink()
    aside.rename(folder)
    pulse._safely(pulse.beat)
    assert runtime.status().unseen is None


def test_an_instance_can_leave_although_its_lock_file_is_out_of_reach(net: Net) -> None:
    runtime, _ = net.join("one", RATE)
    folder = runtime.settings.runtime_dir / "instances"
    folder.rename(folder.with_name("aside"))
    folder.touch()
    runtime.close()
    assert net.timeline.run(Snapshot()).instances == ()
