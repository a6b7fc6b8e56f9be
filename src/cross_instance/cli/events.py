"""`cross-instance events`: what the instances of the store have told, and what they tell from now on."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cross_instance.config import full_address, load_settings, without_password
from cross_instance.spelling import printable
from cross_instance.watching.feed import FeedReader, feed_path, to_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cross_instance.config import Settings
    from cross_instance.events import Event

LOOK_EVERY = 0.2
"""Seconds between looks into the file, while it is followed."""


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what is told from now on, until Ctrl-C.")
@click.option("--last", default=20, show_default=True, help="How many of those told before are shown.")
@click.option("--kind", "kinds", multiple=True, help="Show events of this kind only; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def events(*, follow: bool, last: int, kinds: tuple[str, ...], as_json: bool) -> None:
    """Show what the instances of the store tell: grants, 429s, changed limits, who comes and goes, what is wrong.

    It reads a file of this machine, not the store: it works, too, while the store is out of reach.
    """
    with closing(FeedReader(_path(load_settings()), whole=True)) as reader:
        for event in deque(_all(reader, kinds), maxlen=max(0, last)):
            click.echo(_line(event, as_json))
        while follow:
            time.sleep(LOOK_EVERY)
            for event in _all(reader, kinds):
                click.echo(_line(event, as_json))


def _path(settings: Settings) -> Path:
    address = full_address(settings.store or settings.runtime_dir)
    return feed_path(settings.runtime_dir, without_password(address))


def _all(reader: FeedReader, kinds: tuple[str, ...]) -> Iterator[Event]:
    """What is there to be read by now."""
    while told := list(reader.read()):
        yield from (event for event in told if not kinds or event.kind in kinds)


def _line(event: Event, as_json: bool) -> str:
    if as_json:
        return to_line(event)
    moment = datetime.fromtimestamp(event.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return printable(f"[{moment}] {event.instance_id}: {event.kind}: {event.message}")
