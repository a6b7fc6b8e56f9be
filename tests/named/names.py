"""The lists of the reference's names in tests/data, and the tables of our pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names_in(file: str) -> dict[str, list[tuple[str, tuple[str, ...] | None]]]:
    """The names of each module with their fields; None for a function."""
    found: dict[str, list[tuple[str, tuple[str, ...] | None]]] = {}
    module = ""
    for line in (ROOT / "tests" / "data" / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            module = line.strip("[]")
        elif line and not line.startswith("#"):
            name, colon, fields = line.partition(":")
            found.setdefault(module, []).append((name, tuple(fields.split()) if colon else None))
    return found


def snake(name: str) -> str:
    """`resolveLimits` → `resolve_limits`, `record429` → `record_429`."""
    return re.sub(r"([A-Z]|\d+)", lambda match: "_" + match[1].lower(), name)


def rows(page: str) -> dict[str, str]:
    """What a page's table maps the reference's names to."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", text, re.MULTILINE))
