"""The parts that processes of their own play in the tests of runtimes; `runtime_zygote` starts them.

They tell what they do in lines on standard output, each with pid and time (store's clock, µs), each written at once.
Times are told so that nothing can seem worse than it was: a grant later than it happened, its end earlier.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from threading import Event as ThreadEvent, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from cross_instance import AsyncRuntime, CrossInstanceError, Runtime, StoreUnavailable
from cross_instance.config import load_settings
from cross_instance.events import STORE_RECOVERED
from cross_instance.stores.embedded import EmbeddedStore

if TYPE_CHECKING:
    from cross_instance import Event
    from cross_instance.config import Settings
    from cross_instance.permits import AsyncPermit, Permit

ASK_AGAIN = 1.0
"""Seconds after which a greedy one that was refused asks again, also where it has heard of no recovery."""


PLENTY = {"requestsPerMinute": 6_000_000, "burst": 100_000}
"""Limits of an account that nothing here exhausts."""


def account(slots: int) -> dict[str, Any]:
    """The setting of an account that lets so many through at once, as often as they like."""
    return {"providers": {"acme": {**PLENTY, "concurrency": slots}}}


def now() -> int:
    """The instant of the store's clock, in µs."""
    return time.monotonic_ns() // 1000


def say(word: str, *rest: object) -> None:
    line = " ".join(map(str, (word, os.getpid(), now(), *rest)))
    os.write(1, line.encode() + b"\n")


def settings_for(folder: str, settings: dict[str, Any]) -> Settings:
    """Settings that nothing outside the folder has a say in."""
    place = Path(folder)
    return load_settings(place, environ={}, home=place, runtime_dir=str(place / "runtime"), **settings)


def _name(permit: Permit | AsyncPermit) -> str:
    return f"{permit.provider} {permit.incarnation}.{permit.seq}"


def puppet(folder: str, settings: dict[str, Any], name: str | None = None) -> None:
    """Do what each line says: `take PROVIDER [TIMEOUT]`, `give PROVIDER`; the end of the input ends it."""
    permits: dict[str, Permit] = {}
    with Runtime(name, settings=settings_for(folder, settings)) as runtime:
        say("joined", runtime.incarnation)
        for line in sys.stdin:
            command, provider, *rest = line.split()
            if command == "give":
                permits.pop(provider).close()
                say("gave", provider)
                continue
            try:
                permit = runtime.permit(provider, "m-1", timeout=float(rest[0]) if rest else None)
                permits[provider] = permit.acquire()
            except CrossInstanceError as error:
                say("refused", provider, type(error).__name__, error)
            else:
                say("took", provider, permit.incarnation)
    say("left")


def greedy(folder: str, settings: dict[str, Any], name: str, patience: float) -> None:
    """From a line on, when all have joined: take all that can be had, and tell of every event."""
    store = None if "store" in settings else EmbeddedStore(Path(folder) / "runtime", patience=patience)
    recovered = ThreadEvent()

    def hear(event: Event) -> None:
        say(event.kind)
        if event.kind == STORE_RECOVERED:
            recovered.set()

    with Runtime(name, store=store, settings=settings_for(folder, settings)) as runtime:
        runtime.subscribe(hear)
        runtime.permit("acme", "m-1").acquire().close()
        say("joined", runtime.incarnation)
        sys.stdin.readline()
        runtime.status()  # it knows its share from here on
        while True:
            try:
                with runtime.permit("acme", "m-1") as permit:
                    say("granted", permit.incarnation)
            except StoreUnavailable as error:
                say("stopped", type(error).__name__)
                recovered.wait(ASK_AGAIN)
                recovered.clear()


def stranger(folder: str, settings: dict[str, Any], user: int) -> None:
    """Be another user, and try to join."""
    loaded = settings_for(folder, settings)
    os.setgid(user)
    os.setuid(user)
    try:
        Runtime(settings=loaded).join()
    except CrossInstanceError as error:
        say("refused", type(error).__name__, error)


def member(folder: str, settings: dict[str, Any]) -> None:
    """Join, take a permit, and leave: each at a line."""
    loaded = settings_for(folder, settings)
    say("ready")
    sys.stdin.readline()
    with Runtime(settings=loaded) as runtime:
        say("joined", runtime.incarnation)
        sys.stdin.readline()
        with runtime.permit("acme", "m-1"):
            say("took")
            sys.stdin.readline()
    say("left")


def storm(folder: str, settings: dict[str, Any], name: str | None, seed: int, providers: list[str]) -> None:
    """Take permits one after the other for ever; now and then leave and join anew."""
    chance, loaded = random.Random(seed), settings_for(folder, settings)
    while True:
        say("joining")
        with Runtime(name, settings=loaded) as runtime:
            for _ in range(chance.randrange(1, 60)):
                permit = runtime.permit(chance.choice(providers), "m-1", priority=chance.choice(["normal", "low"]))
                say("asking", permit.provider)
                with permit:
                    say("granted", _name(permit))
                    time.sleep(chance.choice((0, 0, 0.001, 0.004)))  # the call
                    say("ending", _name(permit))
            say("leaving")


def storm_async(folder: str, settings: dict[str, Any], name: str | None, seed: int, providers: list[str]) -> None:
    """The same with several tasks at once, some of which are cancelled while they wait or hold."""
    chance, loaded = random.Random(seed), settings_for(folder, settings)

    async def one(runtime: AsyncRuntime) -> None:
        permit = runtime.permit(chance.choice(providers), "m-1", priority=chance.choice(["normal", "low"]))
        say("asking", permit.provider)
        async with permit:
            say("granted", _name(permit))
            try:
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.004)))  # the call
            finally:
                say("ending", _name(permit))

    async def life() -> None:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        while True:
            await join_and_leave()

    async def join_and_leave() -> None:
        say("joining")
        async with AsyncRuntime(name, settings=loaded) as runtime:
            for _ in range(chance.randrange(1, 20)):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(runtime)) for _ in range(3)]
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in tasks if chance.random() < 0.3 else ():
                        task.cancel()
            say("leaving")

    asyncio.run(life())


def until_interrupted(folder: str, settings: dict[str, Any], seed: int, providers: list[str], kind: str) -> None:
    """A storm that ends well on Ctrl-C or SIGTERM, whenever it comes."""

    def end(number: int, _: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, end)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        {"sync": storm, "async": storm_async}[kind](folder, settings, None, seed, providers)


def end_while_threads_wait(folder: str, settings: dict[str, Any], count: int) -> None:
    """End, as soon as a line comes, without closing anything."""
    runtime = Runtime(settings=settings_for(folder, settings))
    kept.append(runtime.permit("acme", "m-1").acquire())
    for _ in range(count):
        kept.append(runtime.permit("acme", "m-1"))
        Thread(target=kept[-1].acquire, daemon=True).start()
    sys.stdin.readline()


kept: list[Permit] = []


def queue_up(folder: str, settings: dict[str, Any], count: int) -> None:
    """Wait for so many permits at once."""

    async def take(runtime: AsyncRuntime) -> None:
        async with runtime.permit("acme", "m-1"):
            say("granted")

    async def life() -> None:
        async with AsyncRuntime(settings=settings_for(folder, settings)) as runtime:
            await asyncio.gather(*(take(runtime) for _ in range(count)))

    asyncio.run(life())


class Target(NamedTuple):
    """Where a call goes: whose account it takes from, and the provider's address."""

    provider: str
    account: str
    model: str
    url: str


def call(folder: str, settings: dict[str, Any], targets: list[list[str]], times: int) -> None:
    """Call each target so many times, all at once, as an SDK's HTTP client does."""

    async def life() -> None:
        async with AsyncRuntime(settings=settings_for(folder, settings)) as runtime, AsyncExitStack() as stack:
            clients = []
            for target in (Target(*target) for target in targets):
                client = runtime.http_client(target.provider, account=target.account, timeout=60)
                clients.append((await stack.enter_async_context(client), target))
            say("ready")
            await asyncio.to_thread(sys.stdin.readline)
            await asyncio.gather(*(_ask(*client) for _ in range(times) for client in clients))

    asyncio.run(life())


async def _ask(client: Any, target: Target) -> None:
    say("calling", target.provider)
    body = {"model": target.model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {target.account}", "x-api-key": target.account}
    response = await client.post(target.url, json=body, headers=headers)
    say("answered", target.provider, response.status_code)


def follow_files(
    folder: str, names: list[str], target: list[str], times: int, at_once: bool, heartbeat_ms: int | None = None
) -> None:
    """Instances that are set up by the files in a folder and tell of each change: so many calls of each, on a line."""
    os.environ["HOME"] = folder
    goal = Target(*target)

    async def calls(client: Any) -> None:
        if at_once:
            await asyncio.gather(*(_ask(client, goal) for _ in range(times)))
            return
        for _ in range(times):
            await _ask(client, goal)

    async def life() -> None:
        async with AsyncExitStack() as stack:
            clients = []
            for name in names:
                made = AsyncRuntime(name, project_dir=folder, heartbeat_interval_ms=heartbeat_ms)
                runtime = await stack.enter_async_context(made)
                runtime.subscribe(lambda event: say(event.kind))
                client = runtime.http_client(goal.provider, account=goal.account, timeout=600)
                clients.append(await stack.enter_async_context(client))
            say("ready")
            await asyncio.to_thread(sys.stdin.readline)
            await asyncio.gather(*map(calls, clients))

    asyncio.run(life())
