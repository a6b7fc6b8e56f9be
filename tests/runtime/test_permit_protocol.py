"""The acquire protocol over the model: waiting takes no real time, and both kinds of runtime ask the same."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tests.runtime.doubles import AsyncTimeline, Timeline, one_at_a_time, settings_in
from tests.runtime.nets import beat_by_hand

from cross_instance import (
    AsyncRuntime,
    Outcome,
    PermitError,
    RateLimitExceeded,
    RequestTooLarge,
    Runtime,
    StoreUnavailable,
    Usage,
)
from cross_instance.events import STORE_RECOVERED, Event
from cross_instance.membership.accounts import MAX_ROUTES, Accounts
from cross_instance.membership.lookout import is_alive
from cross_instance.rules.operations import (
    FOREVER,
    NO_SIGNALS,
    SECOND,
    Acquire,
    Cancel,
    Configure,
    Costs,
    Join,
    Settle,
    Snapshot,
    Sweep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def runtime(timeline: Timeline, tmp_path: Path) -> Iterator[Runtime]:
    """Its heartbeat thread does nothing: what a test counts is its own."""
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        beat_by_hand(runtime)
        yield runtime


def last(timeline: Timeline, kind: type[Any]) -> Any:
    return [op for op, _ in timeline.ops if type(op) is kind][-1]


def held(timeline: Timeline) -> int:
    return sum(instance.held + instance.waiting for instance in timeline.run(Snapshot()).instances)


# --- asking ----------------------------------------------------------------------------------------------------


def test_a_free_permit_takes_one_operation_and_gives_back_with_one(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("acme", "m-1"):
        pass
    before = len(timeline.ops)
    with runtime.permit("acme", "m-1") as permit:
        assert permit.state == "held"
    assert [type(op) for op, _ in timeline.ops[before:]] == [Acquire, Settle]


def test_the_account_is_published_before_its_first_permit(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("Acme", "m-1", account="team-b"):
        pass
    published = last(timeline, Configure)
    assert (published.account, published.spec.limits[0].amount) == ("acme/team-b", 60_000)
    assert last(timeline, Acquire).account == "acme/team-b"


def test_totalmaxllm_is_published_when_it_is_set(timeline: Timeline, tmp_path: Path) -> None:
    plenty = {"requestsPerMinute": 60_000}
    settings = settings_in(tmp_path, total_max_llm=1, providers={"openai": plenty, "anthropic": plenty})
    with Runtime("one", store=timeline, settings=settings) as runtime, runtime.permit("openai", "gpt-4o"):
        assert last(timeline, Configure).account != ""
        with pytest.raises(RateLimitExceeded, match="totalMaxLlm"):
            runtime.permit("anthropic", "claude", timeout=0).acquire()


def test_a_model_takes_from_the_group_of_its_pattern(timeline: Timeline, tmp_path: Path) -> None:
    models = {"gpt-4*": {"requestsPerMinute": 10}, "gpt-4o": {"requestsPerMinute": 20}}
    settings = settings_in(tmp_path, providers={"openai": {"models": models}})
    with Runtime("one", store=timeline, settings=settings) as runtime:
        groups = []
        for model in ("gpt-4o-2026-01-01", "gpt-4.1", "o9"):
            with runtime.permit("openai", model):
                groups.append(last(timeline, Acquire).group)
        assert groups == ["gpt-4o", "gpt-4*", ""]


def test_what_others_publish_is_taken_over(timeline: Timeline, runtime: Runtime, tmp_path: Path) -> None:
    with runtime.permit("acme", "m-1"):
        pass
    settings = settings_in(tmp_path, providers={"acme": {"models": {"m": {"requestsPerMinute": 10}}}})
    with Runtime("two", store=timeline, settings=settings) as other:
        with other.permit("acme", "m-1"):
            pass
        with runtime.permit("acme", "m-1"):
            assert last(timeline, Acquire).group == "m"


def test_weight_and_reserve_are_published(timeline: Timeline, tmp_path: Path) -> None:
    settings = one_at_a_time(tmp_path, instances={"one": {"priority": 10, "reservedCapacity": 100}})
    with Runtime("one", store=timeline, settings=settings) as runtime, runtime.permit("acme", "m-1"):
        assert (last(timeline, Configure).weight, last(timeline, Configure).reserve) == (10, 100)
    childs = Accounts(settings, "one", reserves=False).publication(1, "acme/default")
    assert (childs.weight, childs.reserve) == (10, 0)


def test_ever_new_models_do_not_fill_the_memory(tmp_path: Path) -> None:
    accounts = Accounts(settings_in(tmp_path), "one")
    accounts.learn("acme/default", 1, ("m-1",))
    for place in range(MAX_ROUTES + 10):
        assert accounts.resolve("acme", f"m-{place}", "default").revision == 1
    assert len(accounts.routes) == 10


@pytest.mark.parametrize(
    ("said", "costs"),
    [
        ({}, Costs()),
        ({"tokens": 900}, Costs(1, 900, 900, 0)),
        ({"tokens": 900, "output_tokens": 200}, Costs(1, 900, 700, 200)),
        ({"input_tokens": 700, "output_tokens": 200}, Costs(1, 900, 700, 200)),
        ({"tokens": 900, "input_tokens": 700}, Costs(1, 900, 700, 0)),
        ({"costs": Costs(3, 1, 1, 1)}, Costs(3, 1, 1, 1)),
    ],
)
def test_costs_are_what_is_said_of_the_tokens(
    timeline: Timeline, runtime: Runtime, said: dict[str, Any], costs: Costs
) -> None:
    with runtime.permit("acme", "m-1", **said):
        assert last(timeline, Acquire).costs == costs


@pytest.mark.parametrize(
    ("seconds", "us"),
    [(None, FOREVER), (float("inf"), FOREVER), (1e300, FOREVER), (1.5, 1_500_000), (0, 0)],
)
def test_a_timeout_is_in_seconds(timeline: Timeline, runtime: Runtime, seconds: float | None, us: int) -> None:
    with runtime.permit("acme", "m-1", timeout=seconds):
        assert last(timeline, Acquire).timeout == us


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"priority": "urgent"}, "priority is one of critical, high"),
        ({"tokens": -1}, "not negative"),
        ({"input_tokens": -1}, "not negative"),
        ({"timeout": float("nan")}, "0 or more, or None to wait as long as it takes; not nan"),
        ({"timeout": -5}, "0 or more, or None to wait as long as it takes; not -5"),
        ({"tokens": 10, "input_tokens": 500}, "10 cannot hold 500 input and 0 output tokens"),
        ({"tokens": 10, "input_tokens": 6, "output_tokens": 5}, "10 cannot hold 6 input and 5 output tokens"),
        ({"tokens": 5, "costs": Costs()}, "not both"),
        ({"costs": Costs(-1)}, "between 0 and"),
        ({"tokens": 1 << 40}, "between 0 and"),
    ],
)
def test_what_makes_no_sense_is_refused(runtime: Runtime, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        runtime.permit("acme", "m-1", **wrong)


def test_who_does_not_own_a_task_gets_no_permit_for_it(runtime: Runtime) -> None:
    with pytest.raises(PermitError, match=r"does not own the task 't-1' in epoch 3"):
        runtime.permit("acme", "m-1", task="t-1", task_epoch=3).acquire()


# --- waiting ---------------------------------------------------------------------------------------------------


def test_a_waiter_is_granted_when_the_holder_gives_back(timeline: Timeline, runtime: Runtime) -> None:
    first = runtime.permit("acme", "m-1").acquire()
    timeline.meanwhile.append(first.close)
    with runtime.permit("acme", "m-1", timeout=5.0) as second:
        assert second.state == "held"
    assert not timeline.unended()


def test_a_repeated_question_is_the_same_question(timeline: Timeline, runtime: Runtime) -> None:
    first = runtime.permit("acme", "m-1").acquire()
    timeline.meanwhile.extend([lambda: None, lambda: None, first.close])
    with runtime.permit("acme", "m-1") as second:
        asked = [op for op, _ in timeline.ops if isinstance(op, Acquire) and op.seq == second.seq]
    assert len(asked) >= 3
    assert len(set(asked)) == 1


def test_a_refill_is_waited_for_exactly(timeline: Timeline, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 60, "burst": 1}})
    with Runtime("one", store=timeline, settings=settings) as runtime:
        with runtime.permit("acme", "m-1"):
            pass
        start = timeline.now()
        with runtime.permit("acme", "m-1", timeout=5.0) as permit:
            assert timeline.now() - start == SECOND
            assert permit.waited == 1.0


def test_a_timeout_ends_the_wait_with_the_figures(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("acme", "m-1"):
        start = timeline.now()
        with pytest.raises(RateLimitExceeded, match=r"acme/m-1: no permit after 2\.5 s: .*1 at a time") as caught:
            runtime.permit("acme", "m-1", timeout=2.5).acquire()
        assert timeline.now() - start == 2_500_000
        assert held(timeline) == 1
    assert (caught.value.provider, caught.value.model, caught.value.code) == ("acme", "m-1", "RATE_LIMIT_EXCEEDED")
    assert caught.value.limit is not None
    assert caught.value.limit.amount == 1


def test_a_wait_that_cannot_succeed_is_refused_at_once(timeline: Timeline, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 6, "burst": 1}})
    with Runtime("one", store=timeline, settings=settings) as runtime:
        with runtime.permit("acme", "m-1"):
            pass
        start = timeline.now()
        with pytest.raises(RateLimitExceeded, match=r"within 5\.0 s: .*6 requests/min.*earliest is in 10") as caught:
            runtime.permit("acme", "m-1", timeout=5.0).acquire()
        assert timeline.now() == start
        assert caught.value.retry_after == 10.0


def test_a_request_beyond_a_limit_is_refused_for_good(tmp_path: Path, timeline: Timeline) -> None:
    settings = settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 60, "tokensPerMinute": 1_000}})
    with Runtime("one", store=timeline, settings=settings) as runtime:
        with pytest.raises(RequestTooLarge, match="takes 5,000, but the limit of 1,000 tokens/min") as caught:
            runtime.permit("acme", "m-1", tokens=5_000).acquire()
        assert caught.value.code == "REQUEST_TOO_LARGE"


# --- fenced ----------------------------------------------------------------------------------------------------


def test_a_fenced_instance_joins_anew_and_goes_on(timeline: Timeline, runtime: Runtime) -> None:
    old = runtime.permit("acme", "m-1").acquire()
    before = runtime.incarnation
    timeline.run(Sweep((before,)))
    with runtime.permit("acme", "m-1") as permit:
        assert runtime.incarnation == permit.incarnation > before
    asked = len(timeline.ops)
    old.close()
    assert len(timeline.ops) == asked, "what the old incarnation held is void"


def test_a_waiter_that_is_fenced_keeps_its_deadline(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("acme", "m-1"), Runtime("two", store=timeline, settings=runtime.settings) as other:
        timeline.meanwhile.append(lambda: timeline.clock.advance(SECOND))
        timeline.meanwhile.append(lambda: timeline.run(Sweep((other.incarnation,))))
        start = timeline.now()
        with pytest.raises(RateLimitExceeded):
            other.permit("acme", "m-1", timeout=4.0).acquire()
        assert timeline.now() - start == 4_000_000
        assert other.incarnation > 2


# --- ending ----------------------------------------------------------------------------------------------------


def ended(timeline: Timeline, runtime: Runtime, error: BaseException | None) -> Outcome:
    """How a permit ended whose body did not settle, but raised this."""
    permit = runtime.permit("acme", "m-1").acquire()
    permit.__exit__(None, error, None)
    outcome: Outcome = last(timeline, Settle).outcome
    return outcome


def test_a_body_that_does_not_settle_ends_as_it_went(timeline: Timeline, runtime: Runtime) -> None:
    assert ended(timeline, runtime, None) is Outcome.SUCCESS
    assert ended(timeline, runtime, OSError()) is Outcome.ERROR
    assert ended(timeline, runtime, TimeoutError()) is Outcome.TIMEOUT
    assert ended(timeline, runtime, KeyboardInterrupt()) is Outcome.ERROR
    assert ended(timeline, runtime, asyncio.CancelledError()) is Outcome.ERROR


def test_what_was_never_sent_costs_nothing_where_its_caller_says_so(timeline: Timeline, runtime: Runtime) -> None:
    def used() -> int:
        return sum(node.used for node in timeline.run(Snapshot()).nodes)

    with pytest.raises(KeyboardInterrupt), runtime.permit("acme", "m-1"):
        raise KeyboardInterrupt
    assert used() == 1
    permit = runtime.permit("acme", "m-1").acquire()
    permit.settle(outcome="ignored")
    permit.__exit__(None, KeyboardInterrupt(), None)
    assert (used(), last(timeline, Settle).outcome) == (1, Outcome.IGNORED)


def test_settling_reads_the_response(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("openai", "gpt-4o", tokens=500) as permit:
        permit.settle(status=429, headers={"retry-after": "7"}, body=b'{"error": {"message": "slow down"}}')
    settled = last(timeline, Settle)
    assert (settled.outcome, settled.signals.retry_after) == (Outcome.REJECTED, 7 * SECOND)


def test_later_settling_adds_to_earlier(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("openai", "gpt-4o", tokens=500) as permit:
        permit.settle(status=200, headers={})
        permit.settle(usage=Usage(input_tokens=90, output_tokens=25), first_token=0.25)
    settled = last(timeline, Settle)
    assert (settled.outcome, settled.first_token, settled.usage.output_tokens) == (Outcome.SUCCESS, 250_000, 25)


def test_signals_and_outcome_may_be_given_as_they_are(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("openai", "gpt-4o") as permit:
        permit.settle(outcome="overloaded", signals=NO_SIGNALS)
    assert last(timeline, Settle).outcome is Outcome.OVERLOADED
    with pytest.raises(ValueError, match="fine"), runtime.permit("openai", "gpt-4o") as permit:
        permit.settle(outcome="fine")


def test_closing_twice_settles_once(timeline: Timeline, runtime: Runtime) -> None:
    permit = runtime.permit("acme", "m-1").acquire()
    permit.close()
    asked = len(timeline.ops)
    permit.close()
    assert len(timeline.ops) == asked
    with pytest.raises(RuntimeError, match="closed"):
        permit.settle(status=200)
    with pytest.raises(RuntimeError, match="take a new one"):
        permit.acquire()


def test_a_permit_that_was_never_entered_costs_nothing(timeline: Timeline, runtime: Runtime) -> None:
    asked = len(timeline.ops)
    runtime.permit("acme", "m-1").close()
    assert len(timeline.ops) == asked


def test_a_forgotten_permit_warns_and_gives_itself_back(timeline: Timeline, tmp_path: Path) -> None:
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        forgotten = [runtime.permit("acme", "m-1").acquire()]
        name = forgotten[0].incarnation, forgotten[0].seq
        with pytest.warns(ResourceWarning, match="a permit for acme/m-1 was never closed"):
            forgotten.clear()
    assert name in {(op.incarnation, op.seq) for op, _ in timeline.ops if isinstance(op, Settle)}


def test_a_store_out_of_reach_is_told_later(timeline: Timeline, tmp_path: Path) -> None:
    def out_of_reach(name: str) -> None:
        raise StoreUnavailable("gone fishing")

    recovered = threading.Event()

    def tell(event: Event) -> None:
        if event.kind == STORE_RECOVERED:
            recovered.set()

    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        runtime.subscribe(tell)
        with runtime.permit("acme", "m-1"):
            timeline.before = out_of_reach
        assert runtime.status().degraded == "gone fishing"
        assert runtime.pi_instance_status()["coordinatorConnected"] is False
        with pytest.raises(StoreUnavailable):
            runtime.permit("acme", "m-1").acquire()
        timeline.before = lambda name: None
        assert recovered.wait(60.0)
        assert runtime.status().degraded is None
    assert not timeline.unended()


# --- interrupted -----------------------------------------------------------------------------------------------


class Interrupt:
    """Raises at the n-th call of the store."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", range(1, 8))
def test_ctrl_c_at_any_call_leaves_nothing_behind(timeline: Timeline, tmp_path: Path, at: int) -> None:
    runtime = Runtime("one", store=timeline, settings=one_at_a_time(tmp_path))
    runtime.join()
    beat_by_hand(runtime)
    holder = runtime.permit("acme", "m-1").acquire()
    timeline.meanwhile.extend([lambda: None, holder.close])
    timeline.before = Interrupt(at)
    interrupted = False
    try:
        with runtime.permit("acme", "m-1"):
            pass
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted is (timeline.before.left <= 0)
    timeline.before = lambda name: None
    holder.close()
    runtime.close()
    assert not timeline.unended()
    assert not still_waiting(timeline)


def test_ctrl_c_while_joining_leaves_the_sign_of_a_death(timeline: Timeline, tmp_path: Path) -> None:
    """The store may have it in its registry: its file, which nobody holds, tells the others."""

    def interrupt(name: str) -> None:
        if name == Configure.__name__:
            raise KeyboardInterrupt

    timeline.before = interrupt
    runtime = Runtime("one", store=timeline, settings=one_at_a_time(tmp_path, total_max_llm=1))
    with pytest.raises(KeyboardInterrupt):
        runtime.join()
    assert is_alive(runtime.settings.runtime_dir / "instances", "one") is False


@pytest.mark.parametrize("at", range(3))
def test_a_cancelled_join_is_no_join(timeline: Timeline, tmp_path: Path, at: int) -> None:
    async def scenario() -> None:
        store = AsyncTimeline(timeline)
        runtime = AsyncRuntime("one", store=timeline, async_store=store, settings=one_at_a_time(tmp_path))
        joining = asyncio.ensure_future(runtime.join())
        for _ in range(at):
            await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert timeline.run(Snapshot()).instances == ()
        async with runtime, runtime.permit("acme", "m-1"):
            assert held(timeline) == 1

    asyncio.run(scenario())


def test_a_wait_ends_when_its_runtime_is_closed(timeline: Timeline, runtime: Runtime) -> None:
    other = Runtime("two", store=timeline, settings=runtime.settings)
    with runtime.permit("acme", "m-1"):
        timeline.meanwhile.append(other.close)
        with pytest.raises(RuntimeError, match="closed"):
            other.permit("acme", "m-1").acquire()


def test_a_wake_that_comes_before_the_withdrawal_is_not_kept(timeline: Timeline, runtime: Runtime) -> None:
    holder, waiter = runtime.permit("acme", "m-1").acquire(), runtime.permit("acme", "m-1")

    def interrupt(name: str) -> None:
        if name == "wait":
            raise KeyboardInterrupt
        if name == Cancel.__name__:
            timeline.before = lambda name: None
            holder.close()

    timeline.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        waiter.acquire()
    assert any(result.wakes for _, result in timeline.ops)
    assert timeline.wait((waiter.incarnation, waiter.seq), 0.0) is None


def test_a_wake_that_comes_before_a_late_withdrawal_is_not_kept(timeline: Timeline, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = AsyncTimeline(timeline)
        runtime = AsyncRuntime("one", store=timeline, async_store=store, settings=one_at_a_time(tmp_path))
        async with runtime:
            pulse = beat_by_hand(runtime)
            holder, waiter = await runtime.permit("acme", "m-1").acquire(), runtime.permit("acme", "m-1")
            thrown_away = waiter.acquire()
            while not runtime._membership.waiters:
                thrown_away.send(None)
            thrown_away.close()
            await holder.close()
            pulse._receive(0.0)
            pulse.flush()
        assert any(result.wakes for _, result in timeline.ops)
        assert timeline.wait((waiter.incarnation, waiter.seq), 0.0) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, 1e300])
def test_a_time_that_cannot_be_is_told_at_once(runtime: Runtime, seconds: float) -> None:
    with runtime.permit("acme", "m-1") as permit, pytest.raises(ValueError, match="first_token"):
        permit.settle(first_token=seconds)


def still_waiting(timeline: Timeline) -> set[tuple[int, int]]:
    """Requests that may stand in the queue though nobody waits for them."""
    asked = {(op.incarnation, op.seq) for op, _ in timeline.ops if isinstance(op, Acquire)}
    done = {(op.incarnation, op.seq) for op, _ in timeline.ops if isinstance(op, Settle | Cancel)}
    return asked - done


@pytest.mark.parametrize("at", range(1, 16))
def test_cancelling_at_any_await_leaves_nothing_behind(timeline: Timeline, tmp_path: Path, at: int) -> None:
    async def scenario() -> None:
        store = AsyncTimeline(timeline)
        runtime = AsyncRuntime("one", store=timeline, async_store=store, settings=one_at_a_time(tmp_path))
        await runtime.join()
        holder = await runtime.permit("acme", "m-1").acquire()

        async def wait_in_turn() -> None:
            async with runtime.permit("acme", "m-1"):
                await asyncio.sleep(0)

        task = asyncio.ensure_future(wait_in_turn())
        left = at

        async def pause(name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                task.cancel()
            if name == "wait" and holder.state == "held":
                await holder.close()
            await asyncio.sleep(0)

        store.pause = pause
        try:
            await task
        except asyncio.CancelledError:
            assert left <= 0
        await holder.close()
        await runtime.close()

    asyncio.run(scenario())
    assert not timeline.unended()
    assert not still_waiting(timeline)


def test_a_coroutine_that_is_thrown_away_leaves_nothing_behind(timeline: Timeline, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = AsyncTimeline(timeline)
        runtime = AsyncRuntime("one", store=timeline, async_store=store, settings=one_at_a_time(tmp_path))
        async with runtime, runtime.permit("acme", "m-1"):
            acquiring = runtime.permit("acme", "m-1").acquire()
            for _ in range(3):
                acquiring.send(None)
            acquiring.close()

    asyncio.run(scenario())
    assert not still_waiting(timeline)


# --- both kinds ------------------------------------------------------------------------------------------------


def plain(runtime: Any) -> Iterator[Any]:
    yield runtime.permit("acme", "m-1", tokens=5)
    yield runtime.permit("acme", "m-2", priority="high")


def refused(runtime: Any) -> Iterator[Any]:
    yield runtime.permit("acme", "m-1", tokens=5_000)


def fenced(runtime: Any) -> Iterator[Any]:
    yield runtime.permit("acme", "m-1")
    runtime._membership.store.run(Sweep((runtime.incarnation,)))
    yield runtime.permit("acme", "m-1")


@pytest.mark.parametrize("script", [plain, refused, fenced])
@pytest.mark.parametrize("busy", [0.0, 0.7, 9.0])
def test_sync_and_async_ask_the_same(tmp_path: Path, script: Callable[[Any], Iterator[Any]], busy: float) -> None:
    """While another instance holds the only slot for `busy` seconds, within a timeout of five."""
    providers = {"acme": {"requestsPerMinute": 60, "burst": 2, "tokensPerMinute": 1_000, "concurrency": 1}}
    settings = settings_in(tmp_path, providers=providers)

    def sync() -> list[Any]:
        timeline = Timeline()
        with Runtime("one", store=timeline, settings=settings) as runtime:
            for permit in script(runtime):
                with occupied(timeline, settings, busy):
                    try:
                        with permit:
                            pass
                    except (RateLimitExceeded, RequestTooLarge) as error:
                        timeline.ops.append((error, None))
        return told(timeline)

    async def asynchronous() -> list[Any]:
        timeline = Timeline()
        store = AsyncTimeline(timeline)
        async with AsyncRuntime("one", store=timeline, async_store=store, settings=settings) as runtime:
            for permit in script(runtime):
                with occupied(timeline, settings, busy):
                    try:
                        async with permit:
                            pass
                    except (RateLimitExceeded, RequestTooLarge) as error:
                        timeline.ops.append((error, None))
        return told(timeline)

    assert sync() == asyncio.run(asynchronous())


class occupied:  # noqa: N801  # reads as a word of the test
    """Another instance holds the slot until a wait has gone on for long enough."""

    def __init__(self, timeline: Timeline, settings: Any, busy: float) -> None:
        self._timeline, self._busy = timeline, round(busy * SECOND)
        self._other = Runtime("other", store=timeline, settings=settings)

    def __enter__(self) -> None:
        if self._busy:
            self._permit = self._other.permit("acme", "m-0").acquire()
            self._until = self._timeline.now() + self._busy
            self._timeline.meanwhile.append(self._look)

    def _look(self) -> None:
        if self._timeline.now() >= self._until:
            self._permit.close()
        else:
            self._timeline.meanwhile.append(self._look)

    def __exit__(self, *_: object) -> None:
        self._timeline.meanwhile.clear()
        if self._busy:
            self._permit.close()
        self._other.close()


def told(timeline: Timeline) -> list[Any]:
    """What was asked and what errors were met, in order, without the looks of the heartbeat threads."""
    return [repr(op) if isinstance(op, Exception) else op for op in timeline.asked() if op != "Snapshot"]


# --- switched off ----------------------------------------------------------------------------------------------


def test_switched_off_everything_passes_and_says_so(
    tmp_path: Path, timeline: Timeline, caplog: pytest.LogCaptureFixture
) -> None:
    settings = one_at_a_time(tmp_path, enabled=False)
    with Runtime("one", store=timeline, settings=settings) as runtime:
        with runtime.permit("acme", "m-1") as first, runtime.permit("acme", "m-1") as second:
            assert first.state == second.state == "held"
            first.settle(status=200, headers={})
        assert "switched off" in caplog.text
        assert runtime.status().enabled is False
        assert runtime.pi_instance_status() == {
            "instanceId": "one",
            "coordinatorConnected": False,
            "providers": {},
            "activeRequests": 0,
        }
    assert not timeline.ops


def test_switched_off_nothing_is_awaited(tmp_path: Path, timeline: Timeline) -> None:
    async def scenario() -> None:
        settings, store = one_at_a_time(tmp_path, enabled=False), AsyncTimeline(timeline)
        async with AsyncRuntime("one", store=timeline, async_store=store, settings=settings) as runtime:
            async with runtime.permit("acme", "m-1") as first, runtime.permit("acme", "m-1") as second:
                assert first.state == second.state == "held"
            assert (await runtime.status()).world is None

    asyncio.run(scenario())
    assert not timeline.ops


def test_a_store_made_by_hand_comes_with_its_twin(tmp_path: Path, timeline: Timeline) -> None:
    settings = one_at_a_time(tmp_path)
    with pytest.raises(TypeError, match="twin"):
        AsyncRuntime("one", store=timeline, settings=settings)
    with pytest.raises(TypeError, match="twin"):
        AsyncRuntime("one", async_store=AsyncTimeline(timeline), settings=settings)
    with pytest.raises(TypeError, match="account_name would have no effect"):
        Runtime("one", store=timeline, settings=settings, account_name="x")


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_clients_are_those_of_the_library(tmp_path: Path, runtime: Runtime, timeline: Timeline, library: str) -> None:
    http = pytest.importorskip(library)
    with runtime.http_client(library=library) as client:
        assert isinstance(client, http.Client)

    async def scenario() -> None:
        store = AsyncTimeline(timeline)
        other = AsyncRuntime("two", store=timeline, async_store=store, settings=runtime.settings)
        async with other.http_client("acme", library, account="team-b", timeout=3.0) as client:
            assert isinstance(client, http.AsyncClient)

    asyncio.run(scenario())


def test_an_unknown_library_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match='"httpx2" or "httpx", not \'requests\''):
        runtime.http_client(library="requests")


def test_a_closed_runtime_says_so(runtime: Runtime) -> None:
    permit = runtime.permit("acme", "m-1")
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.permit("acme", "m-1")
    with pytest.raises(RuntimeError, match="closed"):
        permit.acquire()


def test_a_runtime_need_not_be_entered(timeline: Timeline, tmp_path: Path) -> None:
    runtime = Runtime("one", store=timeline, settings=one_at_a_time(tmp_path))
    assert (runtime.incarnation, timeline.ops) == (0, [])
    with runtime.permit("acme", "m-1"):
        assert runtime.incarnation > 0
    runtime.close()
    assert isinstance(timeline.ops[0][0], Join)


def test_one_id_is_one_instance_within_a_process(timeline: Timeline, tmp_path: Path) -> None:
    settings = one_at_a_time(tmp_path)
    with Runtime("one", store=timeline, settings=settings) as first:
        with Runtime("one", store=timeline, settings=settings) as second:
            assert first.incarnation == second.incarnation
        assert first.incarnation, "the first one is still there"
        with first.permit("acme", "m-1"):
            pass
    assert [type(op) for op, _ in timeline.ops].count(Join) == 1


def test_settings_belong_to_the_instance(timeline: Timeline, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    narrow, wide = one_at_a_time(tmp_path), settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 60_000}})
    with Runtime("one", store=timeline, settings=narrow) as first, first.permit("acme", "m-1"):
        second = Runtime("one", store=timeline, settings=wide)
        assert "those hold" in caplog.text
        with pytest.raises(RateLimitExceeded):
            second.permit("acme", "m-1", timeout=0).acquire()
        second.close()
    third = Runtime("one", store=timeline, settings=wide)
    with third, third.permit("acme", "m-1"), third.permit("acme", "m-1", timeout=0):
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, timeline: Timeline) -> None:
    settings = one_at_a_time(tmp_path)
    settings.runtime_dir.parent.mkdir(exist_ok=True)
    settings.runtime_dir.write_text("a file, not a folder")
    with pytest.raises(StoreUnavailable, match=r"runtime (cannot be used|is not a folder).*PI_RUNTIME_DIR"):
        Runtime("one", store=timeline, settings=settings).join()


def test_ids_are_made_where_none_is_given(timeline: Timeline, tmp_path: Path) -> None:
    settings = one_at_a_time(tmp_path)
    runtimes = [Runtime(store=timeline, settings=settings, session_id="0123456789") for _ in range(3)]
    ids = [runtime.instance_id for runtime in runtimes]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(rf"01234567-{os.getpid()}-[0-9a-f]+", instance_id) for instance_id in ids)
    assert Runtime(store=timeline, settings=one_at_a_time(tmp_path, instance_id="mine")).instance_id == "mine"


def test_nobody_is_warned_of_what_was_closed(timeline: Timeline, runtime: Runtime) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        permit = runtime.permit("acme", "m-1").acquire()
        permit.close()
        del permit
        gc.collect()
    assert [warning for warning in warned if "permit" in str(warning.message)] == []
