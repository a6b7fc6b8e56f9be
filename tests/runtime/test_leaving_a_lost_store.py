"""Who leaves a store that is out of reach asks it once, briefly where that is known; and loses nothing that counts."""

from __future__ import annotations

import math
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from tests.looking import until
from tests.runtime.cables import Cable
from tests.runtime.doubles import settings_in
from tests.runtime.nets import Net, mend, rest
from tests.stores.redis_server import Server, serving

from cross_instance import Runtime, StoreUnavailable
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.redis.store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROVIDERS = {"acme": {"requestsPerMinute": 60_000, "burst": 1_000}}
NEVER = 3_600.0


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(tmp_path, stack)


def known_to_be_away(net: Net) -> tuple[Runtime, Cable]:
    """An instance that goes on at its share: something is owed, and something is to be told later."""
    runtime, cable = net.join("one", PROVIDERS)
    net.look(runtime)
    held = runtime.permit("acme", "m-1", timeout=0).acquire()
    cable.cut = True
    rest(net, 1)
    runtime.permit("acme", "m-1", timeout=0).acquire().close()
    held.close()
    assert runtime.status().degraded is not None
    cable.tries = 0
    return runtime, cable


def test_a_store_known_to_be_away_is_asked_once(net: Net) -> None:
    runtime, cable = known_to_be_away(net)
    runtime.close()
    assert cable.tries == 1


def test_so_it_is_at_the_end_of_the_process(net: Net) -> None:
    runtime, cable = known_to_be_away(net)
    runtime._membership.quit()
    assert cable.tries == 1
    assert not runtime.incarnation


def test_a_store_found_to_be_away_is_asked_once_too(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cable = Cable(Net(tmp_path, stack).timeline)
        settings = settings_in(tmp_path, logging=False)
        with Runtime("one", store=cable, settings=settings) as runtime:
            with runtime.permit("acme", "m-1") as permit:
                permit.settle(status=429, headers={"retry-after": "0"})
            cable.cut = True
        assert cable.tries == 1


def test_one_that_is_back_by_then_is_told_everything(net: Net) -> None:
    runtime, cable = known_to_be_away(net)
    cable.cut = False
    runtime.close()
    assert net.node().used == 3
    assert net.node().held == 0
    assert net.timeline.run(Snapshot()).instances == ()


def test_who_comes_while_the_last_one_leaves_has_the_usual_patience(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, cable = known_to_be_away(net)
    membership = runtime._membership
    hurried: list[float] = []
    monkeypatch.setattr(cable, "hurry", hurried.append, raising=False)
    membership.owns_store = True
    settle_up = membership._settle_up

    def somebody_comes() -> None:
        settle_up()
        membership.enter("another")

    monkeypatch.setattr(membership, "_settle_up", somebody_comes)
    membership.leave(runtime)
    assert hurried[0] < hurried[1] == math.inf
    mend(runtime, cable)
    assert runtime.status().degraded is None
    membership.owns_store = False


# --- at a real server ----------------------------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def patient(own_server: Server) -> Iterator[RedisStore]:
    """A store that repeats its calls for longer than any test lasts."""
    options = (f"patience={NEVER}", f"timeout={NEVER}", f"connect_timeout={NEVER}")
    with closing(RedisStore(own_server.url("x", *options))) as store:
        yield store


def test_a_call_under_way_is_given_up_in_haste(own_server: Server, patient: RedisStore) -> None:
    errors: list[StoreUnavailable] = []

    def ask() -> None:
        with pytest.raises(StoreUnavailable) as caught:
            patient.run(Snapshot())
        errors.append(caught.value)

    own_server.kill()
    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: patient._shared.servers.generation > 0)
    patient.hurry(0.0)
    asking.join()
    assert "cannot be reached" in str(errors[0])


def test_a_server_that_hangs_is_given_up_in_haste(own_server: Server, patient: RedisStore) -> None:
    patient._connections.close()
    with own_server.stopped():
        patient.hurry(0.0)
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            patient.run(Snapshot())
