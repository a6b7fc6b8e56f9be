"""A place to run commands in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli.commands import Place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.project.mkdir()
    return made
