"""The adjuster: the states of all models, changed under one lock, and a timer that recovers what was cut.

1. Every change is decided by `machine`; here are only the lock, the clock, the timer and those who want to know.
2. Who wants to know is called after the lock was let go, in the thread that caused the change; one who raises is
   logged, and does not stop the others.
3. The instances that share a model are counted anew when a parallelism is asked for, at most once a second, and by the
   timer; a count that was told by hand holds until the registry's changes.
4. The timer is a thread that exists only once a model was cut; `shutdown` ends it for good.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cross_instance.dynamic_parallelism import machine
from cross_instance.dynamic_parallelism.models import DynamicAdjusterConfig, ParallelismChange
from cross_instance.membership.clocks import steady_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cross_instance.dynamic_parallelism.machine import State
    from cross_instance.dynamic_parallelism.models import (
        ErrorType,
        ModelState,
        ParallelismConfig,
        ProviderHealth,
        ResponseTimes,
    )

    Count = Callable[[Iterable[str]], Mapping[str, int]]

log = logging.getLogger("cross_instance")

LOOK_EVERY_MS = 1_000.0
"""How old the count of instances may be when a parallelism is told."""
MOST_MODELS = 1_000
"""Models that a state is kept of; beyond that the one longest unchanged is forgotten."""


_BEGUN = time.time() - steady_seconds()


def wall_ms() -> float:
    """Unix time in milliseconds by the clock as it stood when this process began: who sets it since moves nothing."""
    return (_BEGUN + steady_seconds()) * 1_000


def build_key(provider: str, model: str) -> str:
    """How a model is named: "provider:model", in lower case."""
    return f"{provider}:{model}".lower()


class DynamicParallelismAdjuster:
    """Adjusts how many calls to a model may be under way at once: down by errors, up again by quiet.

    `config` is complete, or fields of it are given by name. `count` tells how many instances use each of the keys it
    is given, where that is known; None: nobody else is known of. `clock` gives milliseconds. `timer` False: who made
    the adjuster calls `process_automatic_recovery` himself.

    Raises `ValueError` for figures that make no sense.
    """

    def __init__(
        self,
        config: DynamicAdjusterConfig | None = None,
        *,
        count: Count | None = None,
        clock: Callable[[], float] = wall_ms,
        timer: bool = True,
        **fields: Any,
    ) -> None:
        self.config = replace(config or DynamicAdjusterConfig(), **fields)
        self._count = count
        self._clock = clock
        self._states: dict[str, State] = {}
        self._counted: dict[str, int] = {}
        self._counted_at: float | None = None
        self._callbacks: list[Callable[[ParallelismChange], object]] = []
        self._lock = threading.Lock()
        self._timed = timer
        self._timer: threading.Thread | None = None
        self._stopped = threading.Event()

    # --- what may run ----------------------------------------------------------------------------------------

    def get_parallelism(self, provider: str, model: str) -> int:
        """How many calls this instance may have under way to a model, at least 1."""
        self._change(build_key(provider, model), lambda state: state)
        self._count_instances()
        return self._state(provider, model).parallelism

    def get_config(self, provider: str, model: str) -> ParallelismConfig:
        """The parallelism before it is shared with other instances, and why it is so."""
        return machine.described(self._state(provider, model), self.config)

    def apply_cross_instance_limits(self, provider: str, model: str, instance_count: int) -> None:
        """Share a model among so many instances. It holds until the registry's count changes.

        Raises `ValueError` for less than one.
        """
        self._change(build_key(provider, model), lambda state: machine.shared(state, instance_count))

    # --- what happens ----------------------------------------------------------------------------------------

    def adjust_for_error(self, provider: str, model: str, error_type: ErrorType) -> None:
        """A call failed. Raises `ValueError` for a type that is not "429", "timeout" or "error"."""
        now = self._clock()
        self._change(build_key(provider, model), lambda state: machine.failed(state, self.config, error_type, now))

    def attempt_recovery(self, provider: str, model: str) -> None:
        """Raise the parallelism, where it is due; the timer does this by itself."""
        now = self._clock()
        self._change(build_key(provider, model), lambda state: machine.recovered(state, self.config, now))

    def request_started(self, provider: str, model: str) -> None:
        """A call is under way."""
        self._change(build_key(provider, model), machine.started)

    def request_completed(self, provider: str, model: str) -> None:
        """A call is over, however it went."""
        self._change(build_key(provider, model), machine.completed)

    def record_success(self, provider: str, model: str, response_ms: float) -> None:
        """A call was answered after so many milliseconds. Raises `ValueError` for a time that cannot be."""
        self._change(build_key(provider, model), lambda state: machine.succeeded(state, self.config, response_ms))

    def calls_passed(
        self,
        provider: str,
        model: str,
        *,
        started: int = 0,
        completed: int = 0,
        response_ms: Sequence[float] = (),
        first_token_ms: Sequence[float] = (),
    ) -> None:
        """Many calls at once: so many have begun and ended, and the times of those that were answered."""
        self._change(
            build_key(provider, model),
            lambda state: machine.passed(state, self.config, started, completed, response_ms, first_token_ms),
        )

    # --- how it stands ---------------------------------------------------------------------------------------

    def get_health(self, provider: str, model: str) -> ProviderHealth:
        """How a model does."""
        return machine.health(self._state(provider, model), self.config, self._clock())

    def get_response_times(self, provider: str, model: str) -> ResponseTimes:
        """How long a model's answers took lately, and whether it is slow or overloaded."""
        return machine.response_times(self._state(provider, model), self.config, self._clock())

    def get_all_states(self) -> dict[str, ModelState]:
        """Every model that something is known of, by its key."""
        now = self._clock()
        with self._lock:
            states = dict(self._states)
        return {key: machine.shown(state, self.config, now) for key, state in sorted(states.items())}

    def on_parallelism_change(self, callback: Callable[[ParallelismChange], object]) -> Callable[[], None]:
        """Have a function called with each change from now on; what is returned ends that."""
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    # --- starting over ---------------------------------------------------------------------------------------

    def reset(self, provider: str, model: str) -> None:
        """Forget what is known of a model, but for its calls under way and who shares it."""
        self._change(build_key(provider, model), self._as_new)

    def reset_all(self) -> None:
        """The same for every model."""
        for key in self._keys():
            self._change(key, self._as_new)

    def shutdown(self) -> None:
        """End the timer; everything else goes on. A second time does nothing."""
        self._stopped.set()
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None and timer is not threading.current_thread():
            timer.join()

    def process_automatic_recovery(self) -> None:
        """What the timer does: count the instances, and raise what is due."""
        self._count_instances()
        now = self._clock()
        for key in self._keys():
            self._change(key, lambda state: machine.recovered(state, self.config, now))

    # --- within ----------------------------------------------------------------------------------------------

    def _fresh(self) -> State:
        return machine.new_state(self.config, self._clock())

    def _as_new(self, state: State) -> State:
        return replace(self._fresh(), reason="reset", active=state.active, instances=state.instances)

    def _state(self, provider: str, model: str) -> State:
        with self._lock:
            return self._states.get(build_key(provider, model)) or self._fresh()

    def _keys(self) -> list[str]:
        with self._lock:
            return list(self._states)

    def _change(self, key: str, change: Callable[[State], State]) -> None:
        with self._lock:
            before = self._states.get(key) or self._fresh()
            after = change(before)
            self._states.pop(key, None)
            self._states[key] = after
            if len(self._states) > MOST_MODELS:
                self._forget_one()
            callbacks = tuple(self._callbacks)
            if after.current < after.base:
                self._start_timer()
        if after.parallelism != before.parallelism:
            shares = after.instances != before.instances
            reason = f"shared by {after.instances} instances" if shares else after.reason
            self._tell(ParallelismChange(key, before.parallelism, after.parallelism, reason), callbacks)

    def _forget_one(self) -> None:
        idle = next((key for key, state in self._states.items() if not state.active), next(iter(self._states)))
        del self._states[idle]
        self._counted.pop(idle, None)

    def _tell(self, change: ParallelismChange, callbacks: tuple[Callable[[ParallelismChange], object], ...]) -> None:
        log.info(
            "%s: parallelism %d → %d (%s)", change.key, change.old_parallelism, change.new_parallelism, change.reason
        )
        for callback in callbacks:
            try:
                callback(change)
            except Exception:
                log.exception("a subscriber failed on the parallelism of %s", change.key)

    def _count_instances(self) -> None:
        """Follow the registry, where there is one that answers."""
        now = self._clock()
        with self._lock:
            old = self._counted_at
            if self._count is None or (old is not None and 0 <= now - old < LOOK_EVERY_MS):
                return
            self._counted_at = now
            keys = list(self._states)
        for key, found in self._count(keys).items():
            with self._lock:
                known = self._counted.get(key, 1)
                self._counted[key] = found
            if found != known:
                self._change(key, lambda state, found=found: machine.shared(state, found))  # type: ignore[misc]

    def _start_timer(self) -> None:
        """With the lock held."""
        if self._timed and self._timer is None and not self._stopped.is_set():
            self._timer = threading.Thread(target=self._run_timer, name="cross-instance-recovery", daemon=True)
            self._timer.start()

    def _run_timer(self) -> None:
        seconds = min(self.config.recovery_interval_ms, self.config.error_window_ms) / 1_000
        while not self._stopped.wait(seconds):
            try:
                self.process_automatic_recovery()
            except Exception:
                log.exception("parallelism could not be recovered")
