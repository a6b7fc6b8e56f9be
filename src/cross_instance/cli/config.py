"""`cross-instance config`: what is set, and where that was said."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from cross_instance.config import load_settings
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.config import Entry


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.option("--origin", is_flag=True, help="Show where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, origins included.")
def show(*, origin: bool, as_json: bool) -> None:
    """Print the settings in force in the working directory, strongest source applied; passwords are hidden.

    Exit code 2 where the configuration is wrong.
    """
    try:
        entries = list(load_settings().entries())
    except ConfigError as error:
        click.echo(f"cross-instance: {error}", err=True)
        sys.exit(2)
    if as_json:
        settings = {entry.key: {"value": entry.value, "origin": entry.origin} for entry in entries}
        click.echo(json.dumps({"settings": settings}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(entries, origin=origin)))


def _lines(entries: Sequence[Entry], *, origin: bool) -> list[str]:
    """One line for each entry, in columns."""
    keys = max(len(entry.key) for entry in entries)
    texts = max(len(entry.text) for entry in entries)
    rows = (f"{e.key:<{keys}}  {e.text:<{texts}}  {e.origin if origin else ''}" for e in entries)
    return [row.rstrip() for row in rows]
