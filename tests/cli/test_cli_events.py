"""`cross-instance events`: what all instances told, and what they tell while it is followed."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from cross_instance import Runtime
from cross_instance.config import load_settings

if TYPE_CHECKING:
    from tests.cli.commands import Place

PROVIDERS = {"acme": {"requestsPerMinute": 600, "burst": 10}}


def runtime(place: Place, name: str) -> Runtime:
    place.configure({"providers": PROVIDERS})
    return Runtime(name, settings=load_settings(place.project, environ={}, home=place.home))


def use(*runtimes: Runtime) -> None:
    for one in runtimes:
        with one.permit("acme", "m-1"):
            pass


def test_before_anything_was_told_there_is_nothing(place: Place) -> None:
    assert place.run("cross-instance", "events") == (0, "", "")
    assert not place.runtime_dir.exists()


def test_what_several_instances_told_is_shown(place: Place) -> None:
    with runtime(place, "one") as one, runtime(place, "two") as two:
        use(one, two)
        with one.permit("acme", "m-1") as permit:
            permit.settle(status=429)
        one._membership.events.tell("odd", "something\n\x1b[2Jodd")
    told = [json.loads(line) for line in place.run("cross-instance", "events", "--json").stdout.splitlines()]
    assert {(line["instanceId"], line["kind"]) for line in told} >= {
        *(("one", "requests-granted"), ("two", "requests-granted"), ("one", "requests-rejected"), ("one", "odd")),
    }
    for name in ("one", "two"):
        seqs = [line["seq"] for line in told if line["instanceId"] == name]
        assert seqs == list(range(1, len(seqs) + 1))
    done = place.run("cross-instance", "events", "--kind", "odd", "--last", "5")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.endswith("] one: odd: something  [2Jodd\n")
    assert place.run("cross-instance", "events", "--last", "0").stdout == ""


def test_it_follows_what_is_told(place: Place) -> None:
    place.configure({"providers": PROVIDERS})
    with place.start("events", "--follow", "--json", "--kind", "odd") as following:
        assert following.stdout is not None
        with runtime(place, "one") as one:
            one._membership.events.tell("odd", "first")
            assert json.loads(following.stdout.readline())["message"] == "first"
            one._membership.events.tell("odd", "second")
            assert json.loads(following.stdout.readline())["message"] == "second"
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130


def test_a_kind_that_there_is_none_of_is_named(place: Place) -> None:
    done = place.run("cross-instance", "events", "--kind", "waiting-lnog", "--kind", "waiting-long")
    said = (
        "cross-instance events: waiting-lnog is none of the kinds that this version tells; did you mean waiting-long?\n"
    )
    assert done == (0, "", said)
    assert ": clock-backwards, clock-jumped, " in place.run("cross-instance", "events", "--kind", "zzz").stderr


@pytest.mark.parametrize("arguments", [("--last", "x"), ("--last", "-1"), ("--sideways",)])
def test_what_it_does_not_know_is_told_in_a_line(place: Place, arguments: tuple[str, ...]) -> None:
    done = place.run("cross-instance", "events", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
