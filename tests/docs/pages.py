"""The pages of documentation and their code blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```(.*)$")
SAVED = re.compile(r"Save this as `([\w.-]+)`")


class Block(NamedTuple):
    """A code block. `line` is that of its first line of code; `saved_as` the file that the text before it names."""

    page: Path
    line: int
    language: str
    code: str
    saved_as: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    blocks, opened, before = [], None, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if fence is None:
            before = line if opened is None and line.strip() else before
        elif opened is None:
            opened = number, fence[1].strip()
        else:
            start, language = opened
            saved = SAVED.search(before)
            code = "\n".join(lines[start : number - 1]) + "\n"
            blocks.append(Block(page, start + 1, language, code, saved[1] if saved else None))
            opened, before = None, ""
    assert opened is None, f"{page}: the block in line {opened} is not closed"
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def blocks_in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]
