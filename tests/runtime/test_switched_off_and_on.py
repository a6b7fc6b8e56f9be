"""An instance that is switched off while it runs lets everybody through, ends what it holds, and leaves; and back."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import names, node, until
from tests.runtime.doubles import settings_in

from cross_instance import AsyncRuntime, Runtime, StoreUnavailable
from cross_instance.events import CONFIG_RELOADED, COORDINATION_OFF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ONE_SLOT = {"acme": {"requestsPerMinute": 60_000, "concurrency": 1}}
OFTEN: dict[str, Any] = {"heartbeat_interval_ms": 20, "heartbeat_timeout_ms": 600_000}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    switch(tmp_path, on=True)
    return tmp_path


@pytest.fixture
def witness(store: str, tmp_path: Path) -> Iterator[Runtime]:
    """Another instance at the store, which nobody switches off."""
    with Runtime("witness", settings=settings_in(tmp_path / "far", store=store, providers=ONE_SLOT)) as runtime:
        yield runtime


def switch(project: Path, *, on: bool) -> None:
    (project / ".pi").mkdir(exist_ok=True)
    (project / ".pi" / "config.json").write_text(json.dumps({"crossInstance": {"enabled": on, "providers": ONE_SLOT}}))


def events(runtime: Runtime | AsyncRuntime, kind: str) -> list[Any]:
    return [event for event in runtime._membership.events.recent if event.kind == kind]


def test_who_waits_goes_through_what_is_held_settles_and_the_instance_leaves(
    store: str, project: Path, witness: Runtime
) -> None:
    with Runtime("one", store=store, **OFTEN) as runtime:
        held = runtime.permit("acme", "m").acquire()
        through: list[str] = []

        def wait() -> None:
            with runtime.permit("acme", "m") as permit:
                through.append(permit.state)

        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: node(witness).waiting == 1)
        switch(project, on=False)
        waiter.join()
        assert through == ["held"]
        with runtime.permit("acme", "m", timeout=0), runtime.permit("acme", "m", timeout=0):
            assert (node(witness).held, node(witness).waiting) == (1, 0), "nobody else holds a slot, or waits for one"
        assert names(witness) == ["witness", "one"], "it stays until what it holds has ended"
        held.close()
        until(lambda: names(witness) == ["witness"])
        assert node(witness).held == 0
        assert (runtime.incarnation, runtime.status().enabled) == (0, False)
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.fields["changed"] == ("enabled",)
        assert len(events(runtime, COORDINATION_OFF)) == 1
        switch(project, on=True)

        def joins() -> bool:
            with runtime.permit("acme", "m", timeout=0):
                return bool(runtime.incarnation)

        until(joins)
        assert names(witness) == ["witness", "one"]
    assert names(witness) == ["witness"]


def test_an_async_runtime_does_the_same(store: str, project: Path, witness: Runtime) -> None:
    async def scenario() -> None:
        async with AsyncRuntime("one", store=store, **OFTEN) as runtime:
            held = await runtime.permit("acme", "m").acquire()

            async def wait() -> str:
                async with runtime.permit("acme", "m") as permit:
                    return permit.state

            waiters = [asyncio.ensure_future(wait()) for _ in range(3)]
            while (await asyncio.to_thread(node, witness)).waiting < 3:
                pass
            switch(project, on=False)
            assert await asyncio.gather(*waiters) == ["held"] * 3
            assert await asyncio.to_thread(names, witness) == ["witness", "one"]
            await held.close()
            await asyncio.to_thread(until, lambda: names(witness) == ["witness"])
            switch(project, on=True)
            while not runtime.incarnation:
                async with runtime.permit("acme", "m", timeout=0):
                    await asyncio.sleep(0)
            assert await asyncio.to_thread(names, witness) == ["witness", "one"]

    asyncio.run(scenario())
    assert names(witness) == ["witness"]


def test_a_lock_is_held_until_it_is_given_back(tmp_path: Path, project: Path) -> None:
    with Runtime("one", store=tmp_path / "store", **OFTEN) as runtime:
        with runtime.lock("deploy") as lock:
            switch(project, on=False)
            until(lambda: not runtime.settings.enabled)
            assert lock.renew()
            with pytest.raises(StoreUnavailable, match="switched off"):
                runtime.lock("another").acquire()
        until(lambda: not runtime.incarnation)


def test_switched_on_before_it_has_left_it_stays(tmp_path: Path, project: Path) -> None:
    with Runtime("one", store=tmp_path / "store", **OFTEN) as runtime:
        with runtime.permit("acme", "m"):
            before = runtime.incarnation
            switch(project, on=False)
            until(lambda: len(events(runtime, COORDINATION_OFF)) == 1)
            switch(project, on=True)
            until(lambda: runtime.settings.enabled)
        with runtime.permit("acme", "m") as permit:
            assert permit.incarnation == before


def test_a_worker_goes_on_until_it_ends(tmp_path: Path, project: Path) -> None:
    done: list[int] = []
    with Runtime("one", store=tmp_path / "store", **OFTEN) as runtime:

        @runtime.task("note")
        def note(number: int) -> None:
            if not done:
                switch(project, on=False)
                until(lambda: len(events(runtime, COORDINATION_OFF)) == 1)
            done.append(number)

        for number in range(3):
            runtime.submit(note, number)
        runtime.work(concurrency=1, until_idle=True)
        assert sorted(done) == [0, 1, 2]
        until(lambda: not runtime.incarnation)
        with pytest.raises(StoreUnavailable, match="switched off"):
            runtime.submit(note, 4)


def test_whoever_is_at_the_door_when_it_closes_goes_through(tmp_path: Path, project: Path) -> None:
    """Between finding the instance joined and asking, it has left."""
    with Runtime("one", store=tmp_path / "store", **OFTEN) as runtime:
        runtime.permit("acme", "m").acquire().close()
        late = runtime.permit("acme", "m")
        switch(project, on=False)
        until(lambda: not runtime.incarnation)
        runtime._membership.users.add(runtime)
        with late:
            assert (late.state, late.incarnation) == ("held", 0)
        runtime._membership.users.clear()
