"""Instances at one timeline that can be cut off from it one by one: time is the model's, duties are done by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.runtime.cables import Cable
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import AsyncRuntime, Runtime
from cross_instance.errors import PermitError
from cross_instance.membership.heartbeat import Pulse
from cross_instance.membership.lookout import Lookout
from cross_instance.membership.presence import instances_folder
from cross_instance.rules.operations import SECOND, NodeState, Snapshot

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

STEP = SECOND // 20
"""Between the tries of a greedy caller, in µs."""


class Net:
    """Instances at one timeline, each by a cable of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.timeline = Timeline()
        self._folder, self._stack = folder, stack

    def join(self, name: str, providers: dict[str, Any], **settings: Any) -> tuple[Runtime, Cable]:
        """An instance that has used the account "acme" once, and has looked at the store since."""
        cable = Cable(self.timeline)
        loaded = settings_in(self._folder, providers=providers, **settings)
        runtime = self._stack.enter_context(Runtime(name, store=cable, settings=loaded))
        beat_by_hand(runtime)
        runtime.permit("acme", "m-1", timeout=0).acquire().close()
        return runtime, cable

    def look(self, *runtimes: Runtime) -> None:
        for runtime in runtimes:
            assert runtime.status().world is not None

    def node(self, name: str = "acme/default") -> NodeState:
        (node,) = (node for node in self.timeline.run(Snapshot()).nodes if node.node == name)
        assert isinstance(node, NodeState)
        return node

    def level(self, kind: str = "requests") -> int:
        return next(limit.available for limit in self.node().limits if limit.kind == kind)


class HandPulse(Pulse):
    """Does its duties only when it is told to."""

    def stop(self) -> None:
        self._receive(0.0)
        self._safely(self.flush)


def beat_by_hand(runtime: Runtime | AsyncRuntime) -> HandPulse:
    """Take the heartbeat thread's place."""
    membership = runtime._membership
    assert membership._pulse is not None
    membership._pulse.stop()
    lookout = Lookout(instances_folder(runtime.settings.runtime_dir), "by hand", interval=0)
    membership._pulse = pulse = HandPulse(membership, lookout, interval=15.0)
    return pulse


def pulse_of(runtime: Runtime | AsyncRuntime) -> HandPulse:
    """What has taken the heartbeat thread's place."""
    pulse = runtime._membership._pulse
    assert isinstance(pulse, HandPulse)
    return pulse


def rest(net: Net, seconds: float) -> None:
    net.timeline.clock.advance(round(seconds * SECOND))


def admitted(net: Net, runtime: Runtime, seconds: float, **request: Any) -> int:
    """How many permits a greedy caller gets in a time."""
    count = 0
    for _ in range(round(seconds * SECOND / STEP)):
        rest(net, STEP / SECOND)
        try:
            while True:
                runtime.permit("acme", "m-1", timeout=0, **request).acquire().close()
                count += 1
        except PermitError:
            pass
    return count


def mend(runtime: Runtime | AsyncRuntime, cable: Cable) -> None:
    """Have the cable mended, and the heartbeat thread find out."""
    cable.cut = False
    pulse = pulse_of(runtime)
    pulse.tick()
    pulse._receive(0.0)
    pulse.flush()
