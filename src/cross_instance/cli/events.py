"""`cross-instance events`: what the instances of the store have told, and what they tell from now on."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing, contextmanager
from datetime import datetime
from heapq import merge
from typing import TYPE_CHECKING

import click

from cross_instance.config import full_address, load_settings, without_password
from cross_instance.config.schema import did_you_mean
from cross_instance.errors import StoreUnavailable
from cross_instance.events import KINDS
from cross_instance.membership.presence import INSTANCES, machine_of
from cross_instance.spelling import printable
from cross_instance.stores.urls import open_store
from cross_instance.watching.feed import FeedReader, feed_path, to_line
from cross_instance.watching.relay import Once, RelayReader, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cross_instance.config import Settings
    from cross_instance.events import Event

LOOK_EVERY = 0.2
"""Seconds between looks into the file, while it is followed."""


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what is told from now on, until Ctrl-C.")
@click.option(
    "--last", type=click.IntRange(0), default=20, show_default=True, help="How many of those told before are shown."
)
@click.option("--kind", "kinds", multiple=True, help="Show events of this kind only; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def events(*, follow: bool, last: int, kinds: tuple[str, ...], as_json: bool) -> None:
    """Show what the instances of the store tell: grants, 429s, changed limits, who comes and goes, what is wrong.

    Those of this machine are read from a file, not from the store: that works, too, while the store is out of reach.
    Those of other machines, which share a server, are read there.
    """
    for kind in sorted({*kinds} - KINDS):
        near = did_you_mean(kind, sorted(KINDS))
        hint = f"; did you mean {near}?" if near else f": {', '.join(sorted(KINDS))}"
        click.echo(f"cross-instance events: {kind} is none of the kinds that this version tells{hint}", err=True)
    settings = load_settings()
    with closing(FeedReader(_path(settings), whole=True)) as reader, _server_of(settings) as server:
        once = Once()

        def told(near: Iterable[Event], far: Iterable[Event]) -> Iterator[Event]:
            news = filter(once.is_news, merge(near, far, key=lambda event: event.at))
            return (event for event in news if not kinds or event.kind in kinds)

        for event in deque(told(_all(reader), _all(server)), maxlen=max(0, last)):
            click.echo(_line(event, as_json))
        while follow:
            time.sleep(LOOK_EVERY)
            for event in told(_all(reader), server.read()):
                click.echo(_line(event, as_json))


@contextmanager
def _server_of(settings: Settings) -> Iterator[RelayReader | Nobody]:
    """What other machines tell; where that cannot be known, it is said."""
    address = settings.store or ""
    try:
        store = open_store(address, settings) if "://" in address else None
    except StoreUnavailable as error:
        click.echo(f"What other machines tell is not shown: {error}", err=True)
        store = None
    feed = getattr(store, "feed", None)
    try:
        yield Nobody() if feed is None else RelayReader(Way(feed, lambda: _machine(settings)), whole=True)
    finally:
        if store is not None:
            store.close()


class Nobody:
    """There is no other machine."""

    def read(self) -> list[Event]:
        """Nothing."""
        return []


def _machine(settings: Settings) -> str:
    """How instances of this machine are called; "" where there has been none."""
    try:
        return machine_of(settings.runtime_dir / INSTANCES)
    except OSError:
        return ""


def _path(settings: Settings) -> Path:
    address = full_address(settings.store or settings.runtime_dir)
    return feed_path(settings.runtime_dir, without_password(address))


def _all(reader: FeedReader | RelayReader | Nobody) -> Iterator[Event]:
    """What is there to be read by now."""
    while told := list(reader.read()):
        yield from told


def _line(event: Event, as_json: bool) -> str:
    if as_json:
        return to_line(event)
    moment = datetime.fromtimestamp(event.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return printable(f"[{moment}] {event.instance_id}: {event.kind}: {event.message}")
