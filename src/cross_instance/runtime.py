"""The main path: a runtime joins an instance to a store and hands out permits.

    with Runtime(instance_id="analyzer-1") as runtime:
        with runtime.permit("openai", "gpt-4o", tokens=1_200, timeout=30.0) as permit:
            response = send(...)
            permit.settle(status=200, headers=response.headers, usage=Usage(input_tokens=900, output_tokens=250))

1. `permit` only describes a request; entering it asks the store (`permits`, by the steps of `protocol`).
2. A runtime joins when it is entered, or at its first use; `close`, or the end of the process, leaves. In between a
   thread keeps the instance alive (`membership`, `heartbeat`). Runtimes of one process with the same id share it.
3. Switched off by the settings (`enabled`), everything passes uncoordinated, and says so; its files switch it off and
   on while it runs (`switching`).
4. `Runtime` and `AsyncRuntime` differ only in who waits: nothing is decided here twice. What else they offer is theirs
   from `observing`, `locks` and `tasks.methods`.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cross_instance.asking import costs_of, patience_of, urgency_of
from cross_instance.config import (
    LiveSettings,
    account_names,
    check_arguments,
    full_address,
    sources_of,
    without_password,
)
from cross_instance.coordinator_events import AsyncCoordinatorEvents, CoordinatorEvents
from cross_instance.degraded.steady import AsyncSteadyStore
from cross_instance.http_clients import AsyncHttpClients, HttpClients
from cross_instance.locks import AsyncLocking, Locking
from cross_instance.membership.membership import Membership
from cross_instance.membership.process import Identity, make_instance_id, share
from cross_instance.membership.switching import LoopUser
from cross_instance.observing import AsyncObserving, Observing
from cross_instance.permits import AsyncPermit, Permit
from cross_instance.providers.tokens import Calibration
from cross_instance.rules.operations import Result
from cross_instance.stores.urls import open_async_store, open_store
from cross_instance.tasks.context import fence
from cross_instance.tasks.methods import AsyncTaskMethods, TaskMethods
from cross_instance.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from cross_instance.config import Settings
    from cross_instance.events import Subscription
    from cross_instance.rules.operations import Costs, Operation, Priority
    from cross_instance.stores.base import AsyncStore, Store

R = TypeVar("R", bound=Result)
PermitT = TypeVar("PermitT", Permit, AsyncPermit)


class _Runtime(Generic[PermitT]):
    """What both runtimes have in common. Arguments are those of `Runtime`."""

    _permit_type: Callable[..., PermitT]

    def __init__(
        self,
        instance_id: str | None = None,
        *,
        store: str | Path | Store | None = None,
        account: str | None = None,
        settings: Settings | None = None,
        project_dir: Path | str | None = None,
        session_id: str = "",
        **overrides: Any,
    ) -> None:
        if settings is None:
            live = LiveSettings.of(sources_of(project_dir, **overrides))
        elif overrides:
            raise TypeError(f"settings are given; {', '.join(overrides)} would have no effect")
        else:
            live = LiveSettings(settings)
        settings = live.settings
        address = store if isinstance(store, str | Path) else None
        check_arguments(instance_id=instance_id, account=account, store=address)
        self.account = account or settings.account
        """The account that is used where `permit` names none."""
        self.calibration = Calibration()
        """What is learned about the tokens of this runtime's requests."""
        self._location, self._given = self._where(store, settings)
        self._named = instance_id or settings.instance_id
        self._membership = self._find_membership(live, session_id, project_dir)
        self._closed = False
        self._subscriptions: list[Subscription] = []
        if not self.settings.enabled:
            self._membership.switch.tell()

    @staticmethod
    def _where(store: str | Path | Store | None, settings: Settings) -> tuple[str, Store | None]:
        """The store's address, and the store where it was given ready made."""
        if store is not None and not isinstance(store, str | Path):
            return f"{type(store).__name__} {id(store):#x}", store
        return full_address(store or settings.store or settings.runtime_dir), None

    def _find_membership(self, live: LiveSettings, session_id: str, project_dir: Path | str | None) -> Membership:
        settings, given = live.settings, self._given
        instance_id = self._named or make_instance_id(session_id)
        identity = Identity(str(settings.runtime_dir), self._location, instance_id)
        make = partial(
            Membership,
            instance_id,
            live,
            without_password(self._location),
            partial(open_store, self._location, settings) if given is None else lambda: given,
            owns_store=given is None,
            session_id=session_id,
            cwd="" if project_dir is None else str(Path(project_dir).absolute()),
        )
        return share(identity, live, make)

    @property
    def settings(self) -> Settings:
        """The settings in force. Where they were loaded here, they follow their files while it is joined."""
        return self._membership.settings

    @property
    def instance_id(self) -> str:
        """The id under which others see this instance."""
        return self._membership.instance_id

    @property
    def incarnation(self) -> int:
        """The number of this life of the instance, larger than any before; 0 while it has not joined."""
        return self._membership.incarnation

    def permit(
        self,
        provider: str,
        model: str = "",
        *,
        tokens: int = 0,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        costs: Costs | None = None,
        priority: str | Priority = "normal",
        timeout: float | None = None,
        account: str | None = None,
        task: str | None = None,
        task_epoch: int = 0,
    ) -> PermitT:
        """Describe a request; entering the permit waits until it may be sent.

        `tokens`: about how many it takes in all; `input_tokens` and `output_tokens` where they are known apart;
        `costs` instead of all three. `priority`: critical, high, normal, low or background. `timeout`: seconds
        to wait (None: as long as it takes; 0: not at all). Raises `ValueError` for a name, priority, numbers
        of tokens or a timeout that make no sense.
        """
        provider, account = account_names(provider, account or self.account)
        if self._closed:
            raise RuntimeError("this runtime is closed")
        if task is None:
            task, task_epoch = fence(self._membership)
        return self._permit_type(
            self,
            self._membership,
            provider,
            model,
            account,
            urgency_of(priority),
            costs_of(tokens, input_tokens, output_tokens, costs),
            patience_of(timeout),
            task,
            task_epoch,
        )

    def _may_join(self) -> bool:
        """Whether there is something to join. Raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError("this runtime is closed")
        if not self.settings.enabled:
            self._membership.reloading.notice()
        return self.settings.enabled


class Runtime(TaskMethods, Locking, Observing, CoordinatorEvents, HttpClients, _Runtime[Permit]):
    """An instance at a store, and its permits.

    `instance_id`: the name others see (None: `PI_INSTANCE_ID`, else one is made). `store`: a folder, a URL, or a
    `Store`, which then remains its owner's to close. `account`: whose limits are used where `permit` names none.
    `settings` are what `load_settings` gives, and stay as they are; without them they are loaded for `project_dir`
    (None: the working folder) and follow their files (`reloading`), and any setting may be given by its name,
    `providers={...}`. `session_id` is shown to others.

    Raises `ConfigError` where a setting is wrong. Joining raises `DuplicateInstance` where another live process has
    the instance id, and `StoreUnavailable` where the store cannot be used.
    """

    _permit_type = Permit

    def join(self) -> bool:
        """Join now, if it has not; False where coordination is switched off."""
        if not self._may_join():
            return False
        if self not in self._membership.users:
            self._membership.enter(self)
        return True

    def close(self) -> None:
        """Leave: permits still held are given back as they were charged. A second time does nothing."""
        if not self._closed:
            self._closed = True
            try:
                self._membership.leave(self)
            finally:
                self._end_subscriptions()

    def run(self, op: Operation[R]) -> R:
        """Have the store decide an operation. Raises `StoreUnavailable`."""
        self.join()
        return self._membership.run(op)

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, _: object, __: object, ___: TracebackType | None) -> None:
        self.close()


class AsyncRuntime(
    AsyncTaskMethods,
    AsyncLocking,
    AsyncObserving,
    AsyncCoordinatorEvents,
    AsyncHttpClients,
    LoopUser,
    _Runtime[AsyncPermit],
):
    """The same for asyncio; its arguments are those of `Runtime`.

    Where `store` is given ready made, `async_store` is the same store for asyncio. One runtime serves one event loop.
    """

    _permit_type = AsyncPermit

    store: AsyncSteadyStore
    """The store for asyncio, once joined."""

    def __init__(
        self,
        instance_id: str | None = None,
        *,
        store: str | Path | Store | None = None,
        async_store: AsyncStore | None = None,
        **options: Any,
    ) -> None:
        super().__init__(instance_id, store=store, **options)
        if (self._given is None) is not (async_store is None):
            raise TypeError("a store given ready made needs its twin for asyncio, and the other way round")
        self._given_async = async_store
        self._opened_by = 0
        self._joining = asyncio.Lock()

    async def join(self) -> bool:
        """Join now, if it has not; False where coordination is switched off."""
        if not self._may_join():
            return False
        async with self._joining:
            if self not in self._membership.users:
                try:
                    await in_thread(self._enter, asyncio.get_running_loop())
                except BaseException:
                    await self._leave()
                    raise
        return True

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the store for asyncio, anew in a forked child, and join."""
        with self._membership.lock:
            self._loop = loop
            if self._opened_by != os.getpid():
                store = self._given_async or open_async_store(self._location, self.settings)
                self.store = AsyncSteadyStore(store, self._membership.fallback)
                self._opened_by = os.getpid()
            self._membership.enter(self)

    def _strand(self) -> None:
        """See `LoopUser`."""
        loop = self._loop
        if loop is None or not loop.is_closed():
            return
        with self._membership.lock:
            if self._loop is not loop:  # it was used in another one meanwhile
                return
            self._loop = None
            self._membership.users.discard(self)
            self._end_subscriptions()
            if self._opened_by == os.getpid() and self._given_async is None:
                self._opened_by = 0
                self.store.strand()

    async def _leave(self) -> None:
        try:
            await in_thread(self._membership.leave, self)
        finally:
            if self._opened_by == os.getpid() and self._given_async is None:
                self._opened_by = 0
                await self.store.close()

    async def close(self) -> None:
        """Leave: permits still held are given back as they were charged. A second time does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._leave()
        finally:
            self._end_subscriptions()

    async def run(self, op: Operation[R]) -> R:
        """Have the store decide an operation. Raises `StoreUnavailable`."""
        await self.join()
        result = await self.store.run(op)
        self._membership.standing.answered(result)
        return result

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(self, _: object, __: object, ___: TracebackType | None) -> None:
        await self.close()
