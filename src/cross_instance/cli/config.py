"""`cross-instance config`: what is set, and where that was said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cross_instance.config import NO_EFFECT, load_settings

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
    entries = list(load_settings().entries())
    if as_json:
        settings = {entry.key: _to_dict(entry) for entry in entries}
        click.echo(json.dumps({"settings": settings}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(entries, origin=origin)))


def _to_dict(entry: Entry) -> dict[str, Any]:
    plain = {"value": entry.value, "origin": entry.origin}
    return plain | {"note": NO_EFFECT} if entry.reserved else plain


def _lines(entries: Sequence[Entry], *, origin: bool) -> list[str]:
    """One line for each entry, in columns."""
    keys = max(len(entry.key) for entry in entries)
    told = [f"{entry.text} ({NO_EFFECT})" if entry.reserved else entry.text for entry in entries]
    texts = max(map(len, told))
    rows = (
        f"{e.key:<{keys}}  {text:<{texts}}  {e.origin if origin else ''}" for e, text in zip(entries, told, strict=True)
    )
    return [row.rstrip() for row in rows]
