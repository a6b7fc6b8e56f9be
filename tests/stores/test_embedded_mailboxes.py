"""Mailboxes: no wake is lost between a waiter's question and its wait, for threads and tasks alike."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Wake
from cross_instance.stores import mailboxes
from cross_instance.stores.mailboxes import Mailboxes

SOON = 60.0
"""Seconds: longer than anything takes that is not broken."""


def test_a_wake_that_came_before_is_there() -> None:
    box = Mailboxes()
    box.deliver([Wake(1, 7, 100)])
    assert box.wait((1, 8), 0) is None
    assert box.wait((1, 7), 0) == Wake(1, 7, 100)
    assert box.wait((1, 7), 0) is None


def test_of_several_the_earliest_instant_is_kept() -> None:
    box = Mailboxes()
    box.deliver([Wake(1, 7, 300), Wake(1, 7, 100), Wake(1, 7, 200)])
    assert box.wait((1, 7), 0) == Wake(1, 7, 100)


def test_what_is_forgotten_is_gone() -> None:
    box = Mailboxes()
    box.deliver([Wake(1, 7, 100)])
    box.forget((1, 7))
    box.forget((1, 8))
    assert box.wait((1, 7), 0) is None


def test_kept_wakes_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "KEPT", 3)
    box = Mailboxes()
    box.deliver([Wake(1, seq, 100) for seq in range(5)])
    assert [seq for seq in range(5) if box.wait((1, seq), 0)] == [2, 3, 4]


def test_a_waiting_thread_is_woken() -> None:
    box = Mailboxes()
    woken: list[Wake | None] = []
    threads = [threading.Thread(target=lambda n=n: woken.append(box.wait((1, n), SOON))) for n in range(8)]
    for thread in threads:
        thread.start()
    box.deliver([Wake(1, n, n) for n in range(8)])
    for thread in threads:
        thread.join()
    assert {wake.seq for wake in woken if wake} == set(range(8))


def test_closing_ends_every_wait() -> None:
    box = Mailboxes()
    ended: list[bool] = []

    def wait() -> None:
        with pytest.raises(StoreUnavailable):
            box.wait((1, 1), SOON)
        ended.append(True)

    async def wait_in_loop() -> None:
        waiting = asyncio.ensure_future(box.wait_async((1, 2), SOON))
        await asyncio.sleep(0)
        box.close()
        with pytest.raises(StoreUnavailable):
            await waiting

    thread = threading.Thread(target=wait)
    thread.start()
    asyncio.run(wait_in_loop())
    thread.join()
    assert ended
    with pytest.raises(StoreUnavailable):
        box.wait((1, 3), SOON)


def test_ten_thousand_tasks_wait_in_one_thread() -> None:
    box = Mailboxes()

    async def main() -> int:
        before = threading.active_count()
        tasks = [asyncio.ensure_future(box.wait_async((1, seq), SOON)) for seq in range(10_000)]
        await asyncio.sleep(0)
        assert threading.active_count() == before
        wakes = [Wake(1, seq, 5) for seq in range(10_000)]
        sender = threading.Thread(target=lambda: [*map(box.deliver, zip(wakes))])
        sender.start()
        woken = await asyncio.gather(*tasks)
        sender.join()
        return len({wake.seq for wake in woken if wake})

    assert asyncio.run(main()) == 10_000


def test_a_task_that_waits_in_vain_gets_none() -> None:
    box = Mailboxes()
    assert asyncio.run(box.wait_async((1, 1), 0)) is None
    box.deliver([Wake(1, 1, 5)])
    assert asyncio.run(box.wait_async((1, 1), 0)) == Wake(1, 1, 5)


@pytest.mark.parametrize("turns", range(4))
def test_a_cancelled_task_loses_no_wake(turns: int) -> None:
    """The cancellation comes before, in the middle of, and after the wake's way through the loop."""
    box = Mailboxes()

    async def main() -> Wake | None:
        task = asyncio.ensure_future(box.wait_async((1, 1), SOON))
        await asyncio.sleep(0)
        box.deliver([Wake(1, 1, 5)])
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return await box.wait_async((1, 1), 0)

    assert asyncio.run(main()) == Wake(1, 1, 5)


def test_a_cancelled_task_leaves_nothing_behind() -> None:
    box = Mailboxes()

    async def main() -> None:
        task = asyncio.ensure_future(box.wait_async((1, 1), SOON))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert not box._waiters
    box.deliver([Wake(1, 1, 5)])
    assert box.wait((1, 1), 0) == Wake(1, 1, 5)


def test_several_event_loops_wait_at_once_and_are_not_kept_alive() -> None:
    box = Mailboxes()
    ready = threading.Barrier(4)
    woken: list[Wake | None] = []
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main(seq: int) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        task = asyncio.ensure_future(box.wait_async((1, seq), SOON))
        await asyncio.sleep(0)
        ready.wait()
        woken.append(await task)

    threads = [threading.Thread(target=lambda n=n: asyncio.run(main(n))) for n in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    box.deliver([Wake(1, seq, 5) for seq in range(3)])
    for thread in threads:
        thread.join()
    assert {wake.seq for wake in woken if wake} == {0, 1, 2}
    del threads
    gc.collect()
    assert [loop() for loop in loops] == [None, None, None]


def test_a_wake_for_a_loop_that_has_ended_does_no_harm() -> None:
    box = Mailboxes()
    loop = asyncio.new_event_loop()
    task = loop.create_task(box.wait_async((1, 1), SOON))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    box.deliver([Wake(1, 1, 5), Wake(1, 2, 5)])
    assert box.wait((1, 2), 0) == Wake(1, 2, 5)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it stays pending for ever, as it should here
