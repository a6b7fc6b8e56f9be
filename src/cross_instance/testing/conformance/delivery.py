"""What a store does beside deciding: it delivers wakes, serves threads and other stores, and closes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Join, Joined, Snapshot
from cross_instance.testing.conformance.contention import PATIENCE, Gauge, drive, work
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.mirror import ConformanceError
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, require, slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.stores.base import Store

WORKERS, TURNS, WIDTH = 6, 20, 2

MOMENT = 0.01
"""Long enough for a wait to return empty-handed, in seconds."""


@law()
def a_wake_is_kept_for_its_waiter(scene: Scene) -> None:
    """A wake that arrives before `wait` is called is not lost, and comes once, as the operation gave it."""
    actor = scene.instance("a", slots(1))
    holder, waiter = actor.hold(), actor.wait()
    wakes = holder.settle().wakes
    require([(wake.incarnation, wake.seq) for wake in wakes] == [waiter.name], f"one waiter is woken: {wakes}")
    kept = scene.store.wait(waiter.name, PATIENCE)
    require(kept == wakes[0], f"its wake was kept, not {kept}")
    require(scene.store.wait(waiter.name, MOMENT) is None, "there is no second one")


@law()
def waiting_ends(scene: Scene) -> None:
    """`wait` returns None at its timeout, also for a permit that never was."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    require(scene.store.wait(actor.wait().name, MOMENT) is None, "nothing came")
    require(scene.store.wait((4_711, 1), 0.0) is None, "and nothing comes for nobody")


@law()
def what_is_forgotten_is_gone(scene: Scene) -> None:
    """`forget` drops a waiter's wakes, and may be called for anyone, twice."""
    actor = scene.instance("a", slots(1))
    holder, waiter = actor.hold(), actor.wait()
    holder.settle()
    require(scene.store.wait(waiter.name, PATIENCE) is not None, "the wake is there")
    for permit in (waiter.name, waiter.name, (4_711, 1)):
        scene.store.forget(permit)
    require(scene.store.wait(waiter.name, MOMENT) is None, "nothing is kept for it")


@law()
def now_follows_the_store(scene: Scene) -> None:
    """`now()` is on the clock of the results."""
    before = scene.store.now()
    decided = scene.world().at.mono
    after = scene.store.now()
    skew = 1_000_000  # what is known of a clock elsewhere may be off by as much as a slow round trip
    require(before - skew <= decided <= after + skew, f"{before}, {decided} and {after} are not on one clock")


@law()
def a_closed_store_says_so(scene: Scene) -> None:
    """`close` may be called twice; afterwards `run` and `wait` raise `StoreUnavailable`."""
    store = scene.unmirrored()
    store.close()
    store.close()
    for name, call in (("run", lambda: store.run(Snapshot())), ("wait", lambda: store.wait((1, 1), 0.0))):
        try:
            call()
        except StoreUnavailable:
            continue
        require(False, f"{name} answered though the store is closed")


@law(Need.SHARING)
def stores_share_a_state(scene: Scene, another: Callable[[], Store]) -> None:
    """What one store decides is there for every other one, and stays when the first is closed."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    with closing(another()) as store:
        world = scene.mirror.run(Snapshot(), via=store)
        require([instance.held for instance in world.instances] == [1], f"the other sees it too: {world}")
        late = Join("late", "nonce", 1, "here", "here.example")
        first = scene.mirror.run(late, via=store)
    if not isinstance(first, Joined) or first.incarnation <= actor.incarnation:
        raise ConformanceError(f"incarnations rise, also elsewhere: {first}")
    again = scene.run(late)
    require(getattr(again, "incarnation", 0) == first.incarnation, "it is there when the other is gone")


@law(Need.SHARING)
def a_wake_reaches_another_store(scene: Scene, another: Callable[[], Store]) -> None:
    """Who waits at one store is woken by what another one frees."""
    actor = scene.instance("a", slots(1))
    holder, waiter = actor.hold(), actor.wait()
    with closing(another()) as store, ThreadPoolExecutor(1) as threads:
        scene.mirror.run(waiter.op, via=store)
        waiting = threads.submit(store.wait, waiter.name, PATIENCE)
        holder.settle()
        wake = waiting.result()
    require(wake is not None and (wake.incarnation, wake.seq) == waiter.name, f"it was woken there: {wake}")
    waiter.take()


@law(Need.SHARING)
def threads_take_turns(scene: Scene, another: Callable[[], Store]) -> None:
    """Many threads at several stores never exceed the slots, and every one of their waiters is served."""
    first, gauge = scene.unmirrored(), Gauge()
    with ExitStack() as stack, ThreadPoolExecutor(WORKERS) as threads:
        stores = [first, stack.enter_context(closing(another()))]
        workers = [
            threads.submit(drive, work(f"worker-{number}", TURNS, WIDTH, gauge), stores[number % 2])
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.result()
    require(gauge.most <= WIDTH, f"{gauge.most} were inside at once, of {WIDTH}")
    require(gauge.passed == WORKERS * TURNS, f"{gauge.passed} turns were taken, of {WORKERS * TURNS}")
    node = next(node for node in first.run(Snapshot()).nodes if node.node == ACCOUNT)
    require((node.held, node.waiting) == (0, 0), f"nothing is left behind: {node}")
