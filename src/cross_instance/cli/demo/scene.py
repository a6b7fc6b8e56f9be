"""The scene of the demo, as data: one account, four processes that know nothing of each other.

The provider allows 600 requests per minute and two seconds' worth at once, and answers after 0.6 to 1.0 s: an account
of the lower tiers. One process has 40 tasks under way at once, three have one each: a batch job beside three terminals.

Without sharing the SDK does what it does by default: it tries a refused request twice more, after 0.5 to 8 s, and then
raises. The provider is kind to it: refused requests cost nothing, while OpenAI charges them, which leaves such a run
about a tenth of the account (measured: 12 %). It sends no Retry-After: told the exact millisecond, the SDK's tries come
four times as often.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS_PER_MINUTE = 600
BURST = 20
FASTEST, SLOWEST = 0.6, 1.0
"""Seconds from a request to its answer."""

SECONDS = 30.0
"""How long each of the two runs lasts by default; with both start-ups the demo stays below a minute."""

MODEL = "gpt-4o-mini"
EXCERPT = 2_000
"""Characters of a file that are sent."""
MOST_FILES = 500
TEXTS = frozenset({".md", ".py", ".toml", ".txt"})


class Part(NamedTuple):
    """One process of the demo and how many tasks it has under way at once."""

    name: str
    tasks: int

    @property
    def is_light(self) -> bool:
        """Whether it has one task at a time, and a person who waits for it."""
        return self.tasks == 1


HIDDEN_PER_MINUTE, HIDDEN_BURST = 300, 10
"""The limit that the hidden part has to find; what is known is the preset, 500 per minute."""
HIDDEN_SECONDS = 60.0
FOUND = 0.05
"""How far the estimate may lie from the limit to count as found."""
HIDDEN_PARTS = (Part("agent-1", 12), Part("agent-2", 12), Part("agent-3", 12))

PARTS = (Part("batch-job", 40), Part("terminal-1", 1), Part("terminal-2", 1), Part("terminal-3", 1))


class Plan(msgspec.Struct, frozen=True):
    """What a worker is told before a run; `folder` is private to the demo. `hidden`: nothing is known of the limits."""

    name: str
    tasks: int
    shared: bool
    base_url: str
    folder: str
    files: tuple[str, ...]
    hidden: bool = False


class Ended(msgspec.Struct, frozen=True):
    """One call that has ended, `seconds` after its file was first asked for; not `answered`: the SDK gave up."""

    seconds: float
    answered: bool


def ceiling(seconds: float) -> float:
    """The most requests that the account allows in any interval of that length: rate x time + burst."""
    return REQUESTS_PER_MINUTE * seconds / 60 + BURST


def own_files() -> tuple[str, ...]:
    """The files to summarise: this repository's, or the installed package's where there is no repository."""
    package = Path(__file__).parents[2]
    repository = package.parents[1]
    root = repository if (repository / "pyproject.toml").is_file() else package
    return tuple(str(path) for path in islice(_texts(root), MOST_FILES))


def _texts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) and path.is_dir():
            continue
        if path.is_dir():
            yield from _texts(path)
        elif path.suffix in TEXTS:
            yield path
