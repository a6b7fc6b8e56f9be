"""Law 11: cut off from its store, an instance runs at its last fair share until the heartbeat timeout, and says so.

Time is the model's: nothing is waited for but threads.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from tests.runtime.cables import AsyncCable, Cable
from tests.runtime.doubles import AsyncTimeline, settings_in
from tests.runtime.nets import STEP, Net, admitted, beat_by_hand, mend, rest

from cross_instance import (
    AsyncRuntime,
    RateLimitExceeded,
    RequestTooLarge,
    Runtime,
    StoreUnavailable,
    Usage,
    events as kinds,
)
from cross_instance.rules.operations import SECOND, Settle, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance import Permit
    from cross_instance.events import Event

RATE = {"acme": {"requestsPerMinute": 240, "burst": 40}}


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(tmp_path, stack)


# --- the share -----------------------------------------------------------------------------------------------------


def test_one_of_four_that_is_cut_off_runs_at_a_quarter_until_its_heartbeat_timeout(net: Net) -> None:
    runtimes = [net.join(f"i-{place}", RATE) for place in range(4)]
    net.look(*(runtime for runtime, _ in runtimes))
    runtime, cable = runtimes[0]
    cable.cut = True
    count = admitted(net, runtime, 59.9)
    print(f"one of four cut off for 60 s under 240/min: {count} permits")
    assert 58 <= count <= 60
    rest(net, 0.2)
    with pytest.raises(StoreUnavailable, match="out of reach for 60 s and this instance's share has run out"):
        runtime.permit("acme", "m-1").acquire()


def test_all_of_four_together_admit_what_the_limit_allows(net: Net) -> None:
    weights = {f"i-{place}": {"priority": weight} for place, weight in enumerate([1, 2, 3, 10])}
    runtimes = [net.join(name, RATE, instances=weights) for name in weights]
    net.look(*(runtime for runtime, _ in runtimes))
    for _, cable in runtimes:
        cable.cut = True
    counts = [0] * 4
    for _ in range(599):
        rest(net, 0.1)
        for place, (runtime, _) in enumerate(runtimes):
            while True:
                try:
                    runtime.permit("acme", "m-1", timeout=0).acquire().close()
                except RateLimitExceeded:
                    break
                counts[place] += 1
    print(f"four cut off for 60 s under 240/min, weights 1, 2, 3, 10: {counts}")
    assert sum(counts) <= 240
    assert counts == [pytest.approx(240 * weight / 16, abs=2) for weight in (1, 2, 3, 10)]


def test_it_is_never_used_while_the_store_answers(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    before = net.node().used
    assert admitted(net, runtime, 2.0) > 0
    assert net.node().used == before + 46, "38 were left of the burst, 8 came in 2 s, each of them from the store"
    assert cable.tries == 0


def test_who_never_had_a_share_does_not_start(net: Net, tmp_path: Path) -> None:
    cable = Cable(net.timeline)
    runtime = Runtime("late", store=cable, settings=settings_in(tmp_path, providers=RATE))
    cable.cut = True
    with pytest.raises(StoreUnavailable, match="the cable is cut"):
        runtime.join()
    assert runtime.status().degraded == "the cable is cut"
    cable.cut = False
    runtime.join()
    assert runtime.status().degraded is None
    cable.cut = True
    with pytest.raises(StoreUnavailable, match="the cable is cut"):
        runtime.permit("acme", "m-1").acquire()
    cable.cut = False
    runtime.close()


def test_an_account_that_was_not_used_before_has_no_share(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    assert admitted(net, runtime, 1.0) > 0
    with pytest.raises(StoreUnavailable):
        runtime.permit("other", "m-1").acquire()


def test_the_share_is_looked_up_after_the_first_use_without_an_operation_of_the_caller(
    net: Net, tmp_path: Path
) -> None:
    with Runtime("one", store=net.timeline, settings=settings_in(tmp_path, providers=RATE)) as runtime:
        runtime.permit("acme", "m-1").acquire().close()
        fallback = runtime._membership.fallback
        while fallback.world is None or not any(node.flows for node in fallback.world.nodes):
            assert runtime._membership._pulse._thread.is_alive()  # type: ignore[union-attr]  # it does so at once


def test_slots_are_shared_and_calls_under_way_hold_theirs(net: Net) -> None:
    providers = {"acme": {"requestsPerMinute": 60_000, "concurrency": 4}}
    runtime, cable = net.join("one", providers)
    net.join("two", providers)
    net.look(runtime)
    held = [runtime.permit("acme", "m-1").acquire() for _ in range(3)]
    cable.cut = True
    rest(net, 1.0)
    for left in (3, 2):
        with pytest.raises(RateLimitExceeded, match="the store is out of reach, and this is the instance's share"):
            runtime.permit("acme", "m-1", timeout=0).acquire()
        assert len(held) == left
        held.pop().close()
    with runtime.permit("acme", "m-1", timeout=0), pytest.raises(RateLimitExceeded):
        runtime.permit("acme", "m-1", timeout=0).acquire()
    mend(runtime, cable)
    assert net.node().held == 1, "two calls ended while it was cut off"
    held.pop().close()
    assert net.node().held == 0


def test_groups_and_the_cluster_have_shares_too(net: Net) -> None:
    providers = {"acme": {"requestsPerMinute": 6_000, "models": {"slow": {"requestsPerMinute": 60, "burst": 10}}}}
    runtime, cable = net.join("one", providers, total_max_llm=2)
    net.join("two", providers, total_max_llm=2)
    runtime.permit("acme", "slow", timeout=0).acquire().close()
    net.look(runtime)
    cable.cut = True
    with pytest.raises(RateLimitExceeded):
        runtime.permit("acme", "slow-1", timeout=0).acquire()
    rest(net, 2.0)
    with runtime.permit("acme", "slow-1", timeout=0), pytest.raises(RateLimitExceeded, match="totalMaxLlm"):
        runtime.permit("acme", "m-1", timeout=0).acquire()


def test_a_request_larger_than_the_share_waits_for_it_and_one_larger_than_the_limit_is_refused(net: Net) -> None:
    providers = {"acme": {"requestsPerMinute": 6_000, "tokensPerMinute": 6_000, "tokenBurst": 2_000}}
    runtime, cable = net.join("one", providers)
    for place in range(3):
        net.join(f"other-{place}", providers)
    net.look(runtime)
    cable.cut = True
    with pytest.raises(RequestTooLarge, match="takes 2,001, but the limit of 6,000 tokens/min"):
        runtime.permit("acme", "m-1", tokens=2_001).acquire()
    assert admitted(net, runtime, 59.0, tokens=1_500) == 1, "500 tokens came in 20 s, then 1,000 were owed"


def test_a_pause_that_was_known_holds(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    with runtime.permit("acme", "m-1") as permit:
        permit.settle(status=429, headers={"retry-after": "20"})
    cable.cut = True
    assert admitted(net, runtime, 19.9) == 0
    assert admitted(net, runtime, 10.0) > 0


def test_a_refusal_of_the_provider_pauses_the_share(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    rest(net, 1.0)
    with runtime.permit("acme", "m-1", timeout=0) as permit:
        permit.settle(status=429, headers={"retry-after": "20"})
    assert admitted(net, runtime, 19.9) == 0


def test_a_daily_limit_goes_on_from_what_was_left_of_it(net: Net) -> None:
    providers = {"acme": {"requestsPerMinute": 6_000, "requestsPerDay": 10}}
    runtime, cable = net.join("one", providers)
    net.join("two", providers)
    net.look(runtime)
    cable.cut = True
    assert admitted(net, runtime, 50.0) == 3, "half of the seven that were left beyond the guard"


def test_what_is_told_of_the_whole_limit_is_not_taken_for_the_share(net: Net) -> None:
    runtime, cable = net.join("one", {"acme": {}})
    rest(net, 10.0)
    net.join("two", {"acme": {}})
    net.look(runtime)
    cable.cut = True
    rest(net, 20.0)
    with runtime.permit("acme", "m-1", timeout=0) as permit:
        permit.settle(
            status=200, headers={"x-ratelimit-limit-requests": "60000", "x-ratelimit-remaining-requests": "9"}
        )
    assert admitted(net, runtime, 20.0) <= 10


# --- afterwards ----------------------------------------------------------------------------------------------------


def test_what_was_used_meanwhile_is_charged_and_calls_under_way_are_counted(net: Net) -> None:
    runtime, cable = net.join("one", RATE | {"acme": {**RATE["acme"], "concurrency": 2, "tokensPerMinute": 60_000}})
    net.look(runtime)
    rest(net, 30.0)
    cable.cut = True
    rest(net, 5.0)
    full, tokens = net.level(), net.level("tokens")
    for _ in range(3):
        with runtime.permit("acme", "m-1", tokens=100, timeout=0) as permit:
            permit.settle(status=200, usage=Usage(input_tokens=700))
    under_way = runtime.permit("acme", "m-1", timeout=0).acquire()
    assert net.level() == full, "the store knows of nothing yet"
    mend(runtime, cable)
    assert (net.level(), net.node().held) == (full - 4, 1)
    assert net.level("tokens") == pytest.approx(tokens - 2_100, abs=100), "but for the guard, which follows delays"
    under_way.close()
    assert net.node().held == 0
    assert not net.timeline.unended()


def test_what_the_shared_buckets_do_not_have_is_not_owed(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    other, _ = net.join("two", RATE)
    net.look(runtime)
    cable.cut = True
    assert admitted(net, runtime, 5.0) == 10
    admitted(net, other, STEP / SECOND)
    mend(runtime, cable)
    assert net.level() == 0
    assert not runtime._membership.fallback.loans
    assert net.node().held == 0
    assert admitted(net, other, 10.0) == 40


def test_who_was_removed_meanwhile_joins_anew_and_its_use_is_charged(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    before = runtime.incarnation
    net.look(runtime)
    rest(net, 30.0)
    cable.cut = True
    rest(net, 5.0)
    under_way = runtime.permit("acme", "m-1", timeout=0).acquire()
    runtime.permit("acme", "m-1", timeout=0).acquire().close()
    net.timeline.run(Sweep((before,)))
    full = net.level()
    mend(runtime, cable)
    assert runtime.incarnation > before
    assert net.level() == full - 2
    under_way.close()
    runtime.permit("acme", "m-1", timeout=0).acquire().close()
    assert net.node().held == 0
    assert not net.timeline.unended()


def test_one_cut_after_the_other_gives_no_burst_each_time(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    assert admitted(net, runtime, 5.0) == 20
    for _ in range(10):
        mend(runtime, cable)
        cable.cut = True
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=0).acquire()
    mend(runtime, cable)


def test_a_permit_of_the_store_that_ends_meanwhile_is_told_to_it_later(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    permit = runtime.permit("acme", "m-1").acquire()
    cable.cut = True
    permit.close()
    assert net.node().held == 1
    mend(runtime, cable)
    assert net.node().held == 0
    assert sum(isinstance(op, Settle) and op.seq == permit.seq for op, _ in net.timeline.ops) == 1


def test_a_body_that_was_never_sent_costs_nothing_in_the_share_either(net: Net) -> None:
    runtime, cable = net.join("one", RATE)
    net.look(runtime)
    cable.cut = True
    rest(net, 0.3)
    for _ in range(20):
        with runtime.permit("acme", "m-1", timeout=0) as permit:
            permit.settle(outcome="ignored")
    full = net.level()
    mend(runtime, cable)
    assert net.level() == full


ACTIONS = st.lists(st.sampled_from(["cut", "mend", "take", "take", "end", "rest", "fence"]), max_size=40)


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_whatever_happens_nothing_stays_behind(actions: list[str]) -> None:
    """Cut and mended at any moment, removed or not: in the end nothing is held, owed to the store or untold."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        net = Net(Path(folder), stack)
        runtime, cable = net.join("one", {"acme": {**RATE["acme"], "concurrency": 3}})
        net.look(runtime)
        held: list[Permit] = []
        for action in actions:
            if action == "cut":
                cable.cut = True
            elif action == "mend":
                mend(runtime, cable)
            elif action == "take":
                with suppress(RateLimitExceeded, StoreUnavailable):
                    held.append(runtime.permit("acme", "m-1", timeout=0).acquire())
            elif action == "end" and held:
                held.pop(0).close()
            elif action == "rest":
                rest(net, 7.0)
            elif action == "fence":
                net.timeline.run(Sweep((runtime.incarnation,)))
        mend(runtime, cable)
        for permit in held:
            permit.close()
        mend(runtime, cable)
        assert not runtime._membership.fallback.loans
        assert not {name for name in net.timeline.unended() if name[0] == runtime.incarnation}
        assert net.node().held == 0
        runtime.permit("acme", "m-1", timeout=60).acquire().close()


# --- saying so -----------------------------------------------------------------------------------------------------


def test_it_is_an_event_a_log_line_and_a_field_of_the_status(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    runtime, cable = net.join("one", RATE)
    net.join("two", RATE)
    net.look(runtime)
    cable.cut = True
    rest(net, 6.0)
    runtime.permit("acme", "m-1", timeout=0).acquire().close()
    status, shares = runtime.status(), {"acme/default": 0.5}
    assert (status.degraded, status.shares, status.world) == ("the cable is cut", shares, None)
    assert status.share_left == pytest.approx(54.0)
    told = status.to_dict()
    assert (told["degraded"], told["shares"]) == ("the cable is cut", shares)
    rest(net, 54.0)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            runtime.permit("acme", "m-1").acquire()
    assert runtime.status().share_left == 0.0
    mend(runtime, cable)
    status = runtime.status()
    assert (status.degraded, status.share_left, status.shares) == (None, None, {})
    told_of = [event for event in status.events if event.kind.startswith("store-")]
    assert [event.kind for event in told_of] == [kinds.STORE_DEGRADED, kinds.STORE_STOPPED, kinds.STORE_RECOVERED]
    assert told_of[0].fields["shares"] == shares
    assert told_of[2].fields["permits"] == 1
    lines = [record for record in caplog.records if record.message.startswith("store-")]
    assert [record.levelno for record in lines] == [logging.ERROR, logging.ERROR, logging.WARNING]


# --- asyncio -------------------------------------------------------------------------------------------------------


def test_with_asyncio_it_is_the_same(net: Net, tmp_path: Path) -> None:
    async def scenario() -> None:
        cable, loaded = Cable(net.timeline), settings_in(tmp_path, providers=RATE)
        events: list[Event] = []
        twin = AsyncCable(cable, AsyncTimeline(net.timeline))
        async with AsyncRuntime("one", store=cable, async_store=twin, settings=loaded) as runtime:
            runtime.subscribe(events.append)
            beat_by_hand(runtime)
            async with runtime.permit("acme", "m-1"):
                pass
            await runtime.status()
            rest(net, 30.0)
            cable.cut = True
            rest(net, 5.0)
            full = net.level()
            for _ in range(3):
                async with runtime.permit("acme", "m-1", timeout=0):
                    pass
            under_way = await runtime.permit("acme", "m-1", timeout=0).acquire()
            assert (await runtime.status()).degraded == "the cable is cut"
            await asyncio.to_thread(mend, runtime, cable)
            await under_way.close()
            assert (net.level(), net.node().held) == (full - 4, 0)
            cable.cut = True
            rest(net, 60.0)
            with pytest.raises(StoreUnavailable):
                await runtime.permit("acme", "m-1", timeout=0).acquire()
            cable.cut = False
        assert [event.kind for event in events][:2] == [kinds.STORE_DEGRADED, kinds.STORE_RECOVERED]

    asyncio.run(scenario())
