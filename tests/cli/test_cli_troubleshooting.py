"""The how-to on what is wrong: each answer that it shows is given by the command, on a store in that state."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.commands import Place
from tests.docs.pages import ROOT, blocks_of

from cross_instance import RateLimitExceeded, Runtime
from cross_instance.config import load_settings
from cross_instance.membership.presence import Card, Presence, instances_folder
from cross_instance.rules.operations import SECOND, Costs, Kind, Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from cross_instance.permits import Permit

TROUBLESHOOTING = ROOT / "docs" / "how-to" / "troubleshooting.md"
PRIORITIES = ROOT / "docs" / "how-to" / "priorities.md"
OPENAI = {"openai": {"requestsPerMinute": 500, "burst": 100}}
CRITICAL = {"instances": {"critical-worker": {"priority": 10, "reservedCapacity": 100}}}
UNLEARNED = {"adaptiveRateControl": {"enabled": False}}
SECONDS = re.compile(r"\d+\.\d+ s\b")


@contextmanager
def live(place: Place, name: str = "live", provider: str = "openai", **arguments: Any) -> Iterator[Permit]:
    """An instance that holds a permit."""
    settings = load_settings(place.project, environ={}, home=place.home, heartbeat_interval_ms=50_000, **arguments)
    with Runtime(name, settings=settings) as runtime, runtime.permit(provider, "m") as permit:
        yield permit


@contextmanager
def refused(place: Place, provider: str, kind: Kind | None) -> Iterator[None]:
    with live(place, provider=provider) as permit:
        permit.settle(status=429, signals=Signals(kind=kind, retry_after=300 * SECOND))
        permit.close()
        yield


@contextmanager
def configured_too_high(place: Place) -> Iterator[None]:
    place.configure({"providers": OPENAI})
    with refused(place, "openai", Kind.REQUESTS):
        yield


@contextmanager
def a_kind_missing(place: Place) -> Iterator[None]:
    place.configure(UNLEARNED)
    with refused(place, "anthropic", Kind.CONCURRENCY):
        yield


@contextmanager
def a_floor_above_the_limit(place: Place) -> Iterator[None]:
    place.configure({"adaptiveRateControl": {"minRequestsPerMinute": 100}})
    with refused(place, "anthropic", Kind.REQUESTS):
        yield


@contextmanager
def present(place: Place, name: str, store: str = "", version: str = "") -> Iterator[None]:
    """A live instance of which there is only the file; it is at this store unless another is named."""
    settings = load_settings(place.project, environ={}, home=place.home)
    card = Card(name, 1, "", "", "", "", store or str(settings.runtime_dir.resolve()), version)
    held = Presence.take(instances_folder(settings.runtime_dir), card)
    try:
        yield
    finally:
        held.release(remove=True)


@contextmanager
def configured(place: Place, settings: dict[str, Any], provider: str | None = None) -> Iterator[None]:
    place.configure(settings)
    with ExitStack() as stack:
        if provider is not None:
            stack.enter_context(live(place, provider=provider))
        yield


@contextmanager
def started_otherwise(place: Place, *beside: str) -> Iterator[None]:
    place.configure({"providers": OPENAI})
    with ExitStack() as stack:
        for name in beside:
            stack.enter_context(live(place, name))
        stack.enter_context(live(place, "other", providers={"openai": {"requestsPerMinute": 300, "burst": 100}}))
        yield


@contextmanager
def more_reserved_than_there_is(place: Place) -> Iterator[None]:
    place.configure(CRITICAL | {"providers": {"openai": {"requestsPerMinute": 60}}})
    with live(place, "critical-worker"):
        yield


@contextmanager
def unreachable(place: Place) -> Iterator[None]:
    place.environment["PI_STORE"] = "redis://127.0.0.1:1"
    yield


STATES: list[Callable[[Place], AbstractContextManager[None]]] = [
    configured_too_high,
    a_kind_missing,
    a_floor_above_the_limit,
    lambda place: present(place, "elsewhere", store="redis://cache:6379"),
    lambda place: configured(place, {"enabled": False}),
    lambda place: configured(place, UNLEARNED, "openai"),
    lambda place: started_otherwise(place, "live"),
    started_otherwise,
    lambda place: configured(place, {"providers": {"antropic": {"requestsPerMinute": 9}}}, "openai"),
    lambda place: configured(place, {}, "acme"),
    lambda place: configured(place, {"totalMaxLLMs": 3}),
    lambda place: configured(place, CRITICAL, "openai"),
    more_reserved_than_there_is,
    lambda place: present(place, "earlier", version="0.0.9"),
    unreachable,
]
"""One for each answer that the page shows, in its order."""
ANSWERS = [block for block in blocks_of(TROUBLESHOOTING) if block.language == "text"]


def told(place: Place, *words: str) -> str:
    """What a command says, without what differs from place to place."""
    return SECONDS.sub("? s", place.run("cross-instance", *words).stdout.replace(f"{place.project}/", ""))


@pytest.mark.parametrize(("answer", "state"), list(zip(ANSWERS, STATES, strict=True)), ids=lambda one: "")
def test_the_doctor_answers_as_the_page_says(place: Place, answer: Any, state: Any) -> None:
    with state(place):
        said = told(place, "doctor")
    assert SECONDS.sub("? s", answer.code) in said


def test_the_status_shows_priorities_and_reserves_as_the_page_says(place: Place) -> None:
    place.configure(CRITICAL)
    with live(place, "critical-worker") as permit, permit.runtime.permit("openai", "m"), live(place, "another"):
        said = told(place, "status")
    shown = next(block.code for block in blocks_of(PRIORITIES) if block.language == "text")
    assert shown in said


def test_nothing_is_found_where_nothing_is_wrong(place: Place) -> None:
    place.configure({"providers": OPENAI})
    with live(place):
        said = told(place, "doctor")
    assert "warn" not in said
    assert "429s" not in said


def test_another_version_beside_is_seen_where_this_one_is_in_use(place: Place) -> None:
    place.configure({"providers": OPENAI})
    with live(place), present(place, "earlier", version="0.0.9"):
        said = told(place, "doctor")
    assert "warn  instances: 1 live here at this store, not in its records: earlier (version 0.0.9)\n" in said


def test_nothing_is_found_wrong_where_somebody_had_to_wait(place: Place) -> None:
    """Who waits stands in the queue of his group of models, which has no limits of its own."""
    place.configure({"providers": {"openai": {"requestsPerMinute": 500, "burst": 100, "concurrency": 1}}})
    with live(place) as held:
        with pytest.raises(RateLimitExceeded):
            held.runtime.permit("openai", "m", timeout=0.01).acquire()
        said = told(place, "doctor")
    assert "warn" not in said


@pytest.mark.parametrize(
    ("provider", "kind", "words"),
    [
        (
            "openai",
            None,
            "ok    429s: openai: the provider has refused since the start: 1 of which it did not say",
        ),
        ("openai", Kind.TOKENS, "ok    429s: openai: the provider has refused since the start: 1 of tokens\n"),
        ("openai", Kind.REQUESTS, "ok    429s: openai: the provider has refused since the start: 1 of requests\n"),
    ],
)
def test_what_follows_by_itself_needs_no_mending(place: Place, provider: str, kind: Kind | None, words: str) -> None:
    """A preset gives way to what the provider says, and a limit that was missing is learned."""
    with live(place, provider=provider) as permit:
        permit.settle(status=429, signals=Signals(kind=kind, retry_after=0))
        permit.close()
        said = told(place, "doctor")
    assert words in said


def test_a_models_own_limit_is_named_with_its_pattern(place: Place) -> None:
    place.configure({"providers": {"openai": {"models": {"m*": {"tokensPerMinute": 50}}}}})
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("live", settings=settings) as runtime:
        permit = runtime.permit("openai", "m", costs=Costs(tokens=5)).acquire()
        place.configure({"providers": {"openai": {"models": {"m*": {"tokensPerMinute": 60}}}}})
        changed = told(place, "doctor")
        permit.settle(status=429, signals=Signals(kind=Kind.TOKENS, retry_after=0))
        permit.close()
        refused = told(place, "doctor")
    where = "are in force where the settings here say"
    assert f"openai m*: 50 tokens/minute (burst 50) {where} 60 tokens/minute (burst 60)" in changed
    assert "60 tokens/minute (burst 60) are configured: lower providers.openai.models.m*.tokensPerMinute" in refused
    assert where not in refused, "what was learned below it is in force now"
