"""Showing a picture that changes, on a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    Show = Callable[[RenderableType], None]


@contextmanager
def showing(title: str) -> Iterator[Show]:
    """Show pictures on stderr, each in place of the one before, none at the end; without a terminal, only a title."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(title, highlight=False)
        yield lambda _: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda picture: live.update(picture, refresh=True)
