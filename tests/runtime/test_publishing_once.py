"""Many first requests at once: one publishes the account, the others come behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time

from cross_instance import Runtime
from cross_instance.protocol import negotiate
from cross_instance.rules.operations import Acquire, Configure, Granted, Stale, Waiting

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


@pytest.fixture
def runtime(timeline: Timeline, tmp_path: Path) -> Iterator[Runtime]:
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        yield runtime


def started(runtime: Runtime, timeline: Timeline) -> Generator[Any, Any, Granted | None]:
    permit = runtime.permit("acme", "m-1")
    permit._begin()
    return negotiate(permit, None, timeline.now)


def test_of_many_first_requests_one_publishes(timeline: Timeline, runtime: Runtime) -> None:
    first, *others = (started(runtime, timeline) for _ in range(3))
    publication, *questions = (next(flow) for flow in (first, *others))
    assert isinstance(publication, Configure)
    assert all(isinstance(question, Acquire) for question in questions)
    asked = first.send(timeline.run(publication))
    with pytest.raises(StopIteration):
        first.send(timeline.run(asked))
    for flow, question in zip(others, questions, strict=True):
        stale = timeline.run(question)
        assert isinstance(stale, Stale)
        assert stale.revision
        anew = flow.send(stale)
        assert isinstance(anew, Acquire)
        assert isinstance(timeline.run(anew), Waiting)
        flow.close()


def test_who_asks_before_the_publisher_has_heard_learns_it_from_the_store(timeline: Timeline, runtime: Runtime) -> None:
    """The answer to the publication may be waiting for the very loop that asks: nobody asks again in vain."""
    first, second = started(runtime, timeline), started(runtime, timeline)
    configured = timeline.run(next(first))
    stale = timeline.run(next(second))
    assert isinstance(stale, Stale)
    assert stale.revision
    anew = second.send(stale)
    assert anew.revision == stale.revision
    with pytest.raises(StopIteration):
        second.send(timeline.run(anew))
    assert isinstance(first.send(configured), Acquire)
    first.close()


def test_who_overtakes_the_publication_publishes_too(timeline: Timeline, runtime: Runtime) -> None:
    first, second = started(runtime, timeline), started(runtime, timeline)
    publication, question = next(first), next(second)
    stale = timeline.run(question)
    assert isinstance(stale, Stale)
    assert not stale.revision
    assert isinstance(second.send(stale), Configure)
    assert isinstance(first.send(timeline.run(publication)), Acquire)
    first.close()
    second.close()


def test_a_publication_that_is_given_up_keeps_nobody_from_publishing(timeline: Timeline, runtime: Runtime) -> None:
    given_up = started(runtime, timeline)
    assert isinstance(next(given_up), Configure)
    given_up.close()
    assert isinstance(next(started(runtime, timeline)), Configure)
