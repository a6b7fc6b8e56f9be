"""A project to work in, and how often an instance looks at what the others do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cross_instance import coordinator
from cross_instance.watching import activity, shared_sights


@pytest.fixture
def looks_that_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine lets a look take, the next one is not put off for it."""
    monkeypatch.setattr(shared_sights, "LOOKS", 0)


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch, looks_that_last: None) -> None:
    """A look every 50 ms instead of every second."""
    monkeypatch.setattr(activity, "EVERY", 0.05)
    monkeypatch.setattr(activity, "READ_EVERY", 0.02)
    monkeypatch.setattr(shared_sights, "EVERY", 0.04)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that this process works in; it is registered in by whoever needs it."""
    (tmp_path / ".pi").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_RUNTIME_DIR", str(tmp_path / "runtime"))
    yield tmp_path
    coordinator.unregister_instance()
