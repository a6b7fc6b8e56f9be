"""`cross-instance events`: what the instances of the store have told, and what they tell from now on."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import datetime
from heapq import merge
from typing import TYPE_CHECKING

import click

from cross_instance.config import full_address, load_settings, without_password
from cross_instance.config.schema import did_you_mean
from cross_instance.errors import ConfigError, StoreUnavailable
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
    from cross_instance.stores.base import Store

LOOK_EVERY = 0.2
"""Seconds between looks into the file, while it is followed."""
TRY_EVERY = 1.0
"""Seconds between tries to reach a server that was away when following it began; each takes its patience, too."""


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
    settings, begun = load_settings(), time.time()
    with closing(FeedReader(_path(settings), whole=True)) as reader, closing(Elsewhere(settings)) as elsewhere:
        once = Once()

        def told(near: Iterable[Event], far: Iterable[Event]) -> list[Event]:
            news = filter(once.is_news, merge(near, far, key=lambda event: event.at))
            return [event for event in news if not kinds or event.kind in kinds]

        def show_last(told: list[Event]) -> None:
            """Show the last of what was told before this began, and all that was since."""
            since = sum(event.at >= begun for event in told)
            show(told[max(0, len(told) - max(last, since)) :])

        def show(told: list[Event]) -> None:
            for event in told:
                click.echo(_line(event, as_json))

        elsewhere.open(keep_trying=follow)
        elsewhere.has_come()
        show_last(told(_all(reader), _all(elsewhere)))
        while follow:
            time.sleep(LOOK_EVERY)
            if elsewhere.has_come():
                show_last(told((), _all(elsewhere)))
            show(told(_all(reader), _all(elsewhere)))


class Elsewhere:
    """What other machines tell: nothing while their server has not been reached, or where there is none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.store or ""
        self._store: Store | None = None
        self._reached: RelayReader | None = None
        self._reader: RelayReader | None = None
        self._error: ConfigError | None = None

    def open(self, *, keep_trying: bool) -> None:
        """Reach the server; where it is away, say so, and `keep_trying` beside. Raises `ConfigError`."""
        try:
            self._reach()
        except StoreUnavailable as error:
            if not keep_trying:
                click.echo(f"What other machines tell is not shown: {error}", err=True)
                return
            click.echo(f"Waiting for the server; what other machines tell is shown once it answers: {error}", err=True)
            threading.Thread(target=self._keep_trying, name="cross-instance-events", daemon=True).start()

    def _reach(self) -> None:
        if "://" not in self._address:
            return
        self._store = open_store(self._address, self._settings)
        feed = getattr(self._store, "feed", None)
        if feed is not None:
            self._reached = RelayReader(Way(feed, lambda: _machine(self._settings)), whole=True)

    def _keep_trying(self) -> None:
        while self._reached is None and self._error is None:
            time.sleep(TRY_EVERY)
            try:
                self._reach()
            except StoreUnavailable:
                continue
            except ConfigError as error:
                self._error = error

    def has_come(self) -> bool:
        """Whether it is read from now on, and was not before. Raises `ConfigError` where the server refuses us."""
        if self._error is not None:
            raise self._error
        before, self._reader = self._reader, self._reached
        return self._reader is not before

    def read(self) -> list[Event]:
        """What has been told since the last time."""
        return [] if self._reader is None else self._reader.read()

    def close(self) -> None:
        """Let go of the server."""
        if self._store is not None:
            self._store.close()


def _machine(settings: Settings) -> str:
    """How instances of this machine are called; "" where there has been none."""
    try:
        return machine_of(settings.runtime_dir / INSTANCES)
    except OSError:
        return ""


def _path(settings: Settings) -> Path:
    address = full_address(settings.store or settings.runtime_dir)
    return feed_path(settings.runtime_dir, without_password(address))


def _all(reader: FeedReader | Elsewhere) -> Iterator[Event]:
    """What is there to be read by now."""
    while told := list(reader.read()):
        yield from told


def _line(event: Event, as_json: bool) -> str:
    if as_json:
        return to_line(event)
    moment = datetime.fromtimestamp(event.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return printable(f"[{moment}] {event.instance_id}: {event.kind}: {event.message}")
